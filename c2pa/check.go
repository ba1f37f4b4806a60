package c2pa

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// decoding bounds what hostile files can ask for.
var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxNestedLevels: 16, MaxArrayElements: 10_000, MaxMapPairs: 10_000}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// Report is what a file's manifest says, and whether it fits the file.
type Report struct {
	Generator string // the program that made the claim
	Source    string // IPTC's term for what made the picture; "" where the manifest does not say
	Signer    string // the certificate's name
	Issuer    string // who vouches for it
	// Problems say what does not fit: each hash and the signature were checked. nil: all fits. Whether the certificate is to be
	// trusted is not checked.
	Problems []string
}

// Check reads the manifest of a PNG or JPEG file; nil without one, and of other files. An error says that the manifest cannot be read.
func Check(file []byte) (*Report, error) {
	p, err := placeOf(file)
	if err != nil || p.manifest == nil {
		if errors.Is(err, ErrFormat) {
			err = nil
		}
		return nil, err
	}
	store, err := readStore(p.manifest)
	if err != nil {
		return nil, err
	}
	var active *read // the last one
	for _, m := range store.inner {
		if strings.HasPrefix(m.kind, "c2m") || strings.HasPrefix(m.kind, "c2u") {
			active = m
		}
	}
	if active == nil {
		return nil, errors.New("the C2PA manifest store is empty")
	}
	statement, signature := active.ofKind(claimType), active.ofKind(signatureType)
	if statement == nil || signature == nil {
		return nil, errors.New("the C2PA manifest has no claim or no signature")
	}
	r := &Report{}
	var c struct {
		Generator  cbor.RawMessage `cbor:"claim_generator_info"`
		Program    string          `cbor:"claim_generator"` // of version 1
		Assertions []reference     `cbor:"assertions"`      // likewise
		Created    []reference     `cbor:"created_assertions"`
		Gathered   []reference     `cbor:"gathered_assertions"`
		Signature  string          `cbor:"signature"`
		Alg        string          `cbor:"alg"`
	}
	if err := decoding.Unmarshal(statement.data, &c); err != nil {
		return nil, fmt.Errorf("the C2PA claim cannot be read: %w", err)
	}
	r.Generator = generator(c.Generator, c.Program)
	certificates, err := verify(signature.data, statement.data)
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	if len(certificates) > 0 {
		r.Signer, r.Issuer = certificates[0].Subject.String(), certificates[0].Issuer.String()
	}
	if strings.HasPrefix(c.Signature, "self#jumbf=/") && !strings.Contains(c.Signature, "/"+active.label+"/") {
		r.problem("the claim belongs to another manifest")
	}
	assertions := active.ofKind(assertionsType)
	hashed := false
	for _, ref := range append(append(c.Created, c.Assertions...), c.Gathered...) {
		label := ref.URL[strings.LastIndexByte(ref.URL, '/')+1:]
		var a *read
		if assertions != nil {
			a = assertions.find(label)
		}
		switch {
		case a == nil:
			r.problem("the assertion %.80q is missing", label)
			continue
		case ref.Alg != "" && ref.Alg != "sha256" || ref.Alg == "" && c.Alg != "" && c.Alg != "sha256":
			r.problem("the hash of the assertion %.80q is of a kind that is not supported: it was not checked", label)
		default:
			if sum := sha256.Sum256(a.raw); !bytes.Equal(sum[:], ref.Hash) {
				r.problem("the assertion %.80q was changed after it was signed", label)
			}
		}
		switch {
		case strings.HasPrefix(label, dataHashLabel):
			hashed = true
			if err := checkHash(a.data, c.Alg, file); err != nil {
				r.Problems = append(r.Problems, err.Error())
			}
		case strings.HasPrefix(label, "c2pa.actions"):
			r.readActions(a.data)
		}
	}
	if !hashed {
		r.problem("the manifest has no hash of the file")
	}
	return r, nil
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// generator is the program's name, of which version 1 has a list.
func generator(raw cbor.RawMessage, plain string) string {
	var one program
	if decoding.Unmarshal(raw, &one) != nil {
		var list []program
		if decoding.Unmarshal(raw, &list) == nil && len(list) > 0 {
			one = list[0]
		}
	}
	if one.Name == "" {
		return plain
	}
	return strings.TrimSpace(one.Name + " " + one.Version)
}

func (r *Report) readActions(data []byte) {
	var all struct {
		Actions []struct {
			Source string `cbor:"digitalSourceType"`
		} `cbor:"actions"`
	}
	if decoding.Unmarshal(data, &all) != nil {
		return // its hash was checked; what it says is for other programs
	}
	for _, a := range all.Actions {
		if a.Source != "" {
			r.Source = a.Source
		}
	}
}

// checkHash compares a data hash with the file.
func checkHash(data []byte, alg string, file []byte) error {
	var h dataHash
	if err := decoding.Unmarshal(data, &h); err != nil {
		return fmt.Errorf("the hash of the file cannot be read: %w", err)
	}
	if h.Alg != "" {
		alg = h.Alg
	}
	if alg != "sha256" && alg != "" {
		return fmt.Errorf("the hash of the file is of the kind %.20q, which is not supported: it was not checked", alg)
	}
	sum, at := sha256.New(), int64(0)
	for _, x := range h.Exclusions {
		if x.Start < at || x.Length < 0 || x.Length > int64(len(file))-x.Start {
			return errors.New("the hash of the file leaves out parts that are not there")
		}
		sum.Write(file[at:x.Start])
		at = x.Start + x.Length
	}
	sum.Write(file[at:])
	if !bytes.Equal(sum.Sum(nil), h.Hash) {
		return errors.New("the file was changed after its manifest was signed")
	}
	return nil
}
