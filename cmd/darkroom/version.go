package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"darkroom/pipeline"

	"github.com/urfave/cli/v2"
)

func versionCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version of the program and of its arithmetic",
		Description: `Programs with the same numerics id make the same picture, bit for bit, from the same recipe on the
same kind of machine.`,
		Flags: []cli.Flag{jsonFlag("print one JSON object")},
		Action: func(c *cli.Context) error {
			if err := noWords(c); err != nil {
				return err
			}
			return version(e, c.Bool("json"))
		},
	}
}

func version(e *env, asJSON bool) error {
	v := struct {
		Version  string `json:"version"`
		Numerics string `json:"numerics"`
		Commit   string `json:"commit"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
		CGO      bool   `json:"cgo"`
		Tags     string `json:"tags"`
	}{pipeline.Version(), pipeline.Numerics, "unknown", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, false, ""}
	if commit, _ := pipeline.Commit(); commit != "" {
		v.Commit = commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "CGO_ENABLED":
				v.CGO = s.Value == "1"
			case "-tags":
				v.Tags = s.Value
			}
		}
	}
	if asJSON {
		return printJSON(e.stdout, v)
	}
	cgo := "without cgo"
	if v.CGO {
		cgo = "with cgo"
	}
	if v.Tags != "" {
		cgo += ", tags " + v.Tags
	}
	return println(e.stdout, fmt.Sprintf("darkroom %s (commit %s), numerics %s, %s %s %s", v.Version, v.Commit, v.Numerics, v.Go, v.Platform, cgo))
}
