package main

import (
	"darkroom/c2pa"
	"darkroom/recipe"

	"github.com/urfave/cli/v2"
)

func certFlag() cli.Flag {
	return &cli.StringFlag{Name: "c2pa-cert", Usage: "sign a C2PA manifest into the file, with the certificate in `FILE` (PEM, followed by those that vouch for it)", DefaultText: "none", Category: recipe.OutputGroup.String()}
}

func keyFlag() cli.Flag {
	return &cli.StringFlag{Name: "c2pa-key", Usage: "the certificate's private key, `FILE` (PEM)", DefaultText: "none", Category: recipe.OutputGroup.String()}
}

// readSigner reads the certificate and the key; nil where none are given.
func readSigner(c *cli.Context) (*c2pa.Signer, error) {
	cert, key := c.String("c2pa-cert"), c.String("c2pa-key")
	switch {
	case cert == "" && key == "":
		return nil, nil
	case cert == "" || key == "":
		return nil, usagef("--c2pa-cert and --c2pa-key belong together: give both")
	}
	s, err := c2pa.Load(cert, key)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return s, nil
}
