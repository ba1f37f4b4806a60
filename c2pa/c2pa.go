// Package c2pa writes and checks Content Credentials: a signed manifest inside a picture that says which program made it and how
// (C2PA Technical Specification 2.1). One manifest is written, with a claim of version 2 and two assertions: that the picture was
// created by a trained model, and the hash of the file around the manifest.
//
// What is signed is whatever the file holds. Whether the signer deserves trust is a question of its certificate, and not answered
// here.
package c2pa

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// Claim is what a manifest says of a picture.
type Claim struct {
	Generator, Version string // the program
	Source             string // IPTC's term for what made the picture, a URL
}

// Labels and assertion names of the specification.
const (
	storeLabel      = "c2pa"
	assertionsLabel = "c2pa.assertions"
	actionsLabel    = "c2pa.actions.v2"
	dataHashLabel   = "c2pa.hash.data"
	claimLabel      = "c2pa.claim.v2"
	signatureLabel  = "c2pa.signature"
)

type program struct {
	Name    string `cbor:"name"`
	Version string `cbor:"version,omitempty"`
}

type action struct {
	Action string  `cbor:"action"`
	Agent  program `cbor:"softwareAgent"`
	Source string  `cbor:"digitalSourceType"`
}

type actions struct {
	Actions []action `cbor:"actions"`
}

type exclusion struct {
	Start  int64 `cbor:"start"`
	Length int64 `cbor:"length"`
}

type dataHash struct {
	Exclusions []exclusion `cbor:"exclusions,omitempty"`
	Name       string      `cbor:"name,omitempty"`
	Alg        string      `cbor:"alg,omitempty"`
	Hash       []byte      `cbor:"hash"`
	Pad        []byte      `cbor:"pad"`
}

// reference names an assertion, with the hash of its box.
type reference struct {
	URL  string `cbor:"url"`
	Hash []byte `cbor:"hash"`
	Alg  string `cbor:"alg,omitempty"`
}

type claim struct {
	Instance   string      `cbor:"instanceID"`
	Generator  program     `cbor:"claim_generator_info"`
	Signature  string      `cbor:"signature"`
	Assertions []reference `cbor:"created_assertions"`
	Alg        string      `cbor:"alg"`
}

// encoding writes the same bytes for the same values (RFC 8949, sec. 4.2.1).
var encoding = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func encoded(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic("c2pa: " + err.Error()) // only types of this package are written
	}
	return b
}

// Embed puts a signed manifest into a PNG or JPEG file that has none.
func (s *Signer) Embed(file []byte, c Claim) ([]byte, error) {
	p, err := placeOf(file)
	if err != nil {
		return nil, err
	}
	if p.manifest != nil {
		return nil, fmt.Errorf("the file has a C2PA manifest already")
	}
	// The manifest says how long it is: its length is what it would be with that length.
	length, sum := 0, sha256.Sum256(file)
	for range 8 {
		m, err := s.manifest(c, exclusion{int64(p.at), int64(length)}, sum[:])
		if err != nil {
			return nil, err
		}
		wrapped := p.wrap(m)
		if len(wrapped) == length {
			return slices.Concat(file[:p.at], wrapped, file[p.at:]), nil
		}
		length = len(wrapped)
	}
	return nil, fmt.Errorf("the manifest's length does not settle")
}

// manifest is the manifest store of a file with that hash outside of the exclusion.
func (s *Signer) manifest(c Claim, around exclusion, hash []byte) ([]byte, error) {
	name := "urn:c2pa:" + uuid("manifest", hash)
	by := program{c.Generator, c.Version}
	boxes := []box{
		cborBox(actionsLabel, encoded(actions{[]action{{"c2pa.created", by, c.Source}}})),
		cborBox(dataHashLabel, encoded(dataHash{Exclusions: []exclusion{around}, Name: "jumbf manifest", Alg: "sha256", Hash: hash, Pad: []byte{}})),
	}
	statement := claim{Instance: "xmp:iid:" + uuid("instance", hash), Generator: by, Signature: "self#jumbf=/c2pa/" + name + "/" + signatureLabel, Alg: "sha256"}
	for _, b := range boxes {
		sum := sha256.Sum256(b.content())
		statement.Assertions = append(statement.Assertions, reference{URL: "self#jumbf=" + assertionsLabel + "/" + b.label, Hash: sum[:]})
	}
	text := encoded(statement)
	signature, err := s.sign(text)
	if err != nil {
		return nil, err
	}
	return superbox(storeType, storeLabel, superbox(manifestType, name,
		superbox(assertionsType, assertionsLabel, boxes...),
		super(claimType, claimLabel, text),
		super(signatureType, signatureLabel, signature),
	)).bytes(), nil
}

// uuid is derived from a hash, so that the same picture has the same one (RFC 9562, version 8).
func uuid(what string, hash []byte) string {
	sum := sha256.Sum256(append([]byte("darkroom "+what+"\x00"), hash...))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
