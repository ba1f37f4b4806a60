package c2pa

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha512" // of ES384 and ES512
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/fxamacker/cbor/v2"
)

// Signer signs manifests with a key and the chain of certificates that vouches for it.
type Signer struct {
	chain [][]byte // DER, the signer's own first
	key   crypto.Signer
	alg   algorithm
}

// algorithm is a signature algorithm of COSE (RFC 9053, RFC 8230).
type algorithm struct {
	id   int64
	hash crypto.Hash // 0 of EdDSA
	side int         // bytes of each half of an ECDSA signature; 0 of others
}

var (
	es256 = algorithm{-7, crypto.SHA256, 32}
	es384 = algorithm{-35, crypto.SHA384, 48}
	es512 = algorithm{-36, crypto.SHA512, 66}
	eddsa = algorithm{id: -8}
	ps256 = algorithm{-37, crypto.SHA256, 0}
	ps384 = algorithm{-38, crypto.SHA384, 0}
	ps512 = algorithm{-39, crypto.SHA512, 0}
)

// Load reads a chain of certificates, the signer's own first, and its private key, both in PEM. Keys on the curves P-256, P-384
// and P-521, Ed25519, are supported.
func Load(certFile, keyFile string) (*Signer, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("the certificate %s with the key %s: %w", certFile, keyFile, err)
	}
	s := &Signer{chain: pair.Certificate}
	switch key := pair.PrivateKey.(type) {
	case *ecdsa.PrivateKey:
		s.key = key
		switch key.Curve {
		case elliptic.P256():
			s.alg = es256
		case elliptic.P384():
			s.alg = es384
		case elliptic.P521():
			s.alg = es512
		}
	case ed25519.PrivateKey:
		s.key, s.alg = key, eddsa
	}
	if s.alg.id == 0 {
		return nil, fmt.Errorf("%s: keys of the kind ECDSA (P-256, P-384, P-521) or Ed25519 sign manifests", keyFile)
	}
	return s, nil
}

// Labels of headers.
const (
	headerAlg   = 1
	headerChain = 33 // x5chain, RFC 9360
)

// signed is COSE_Sign1 (RFC 9052, sec. 4.2), whose payload, the claim, lies elsewhere.
type signed struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected map[any]any
	Payload     []byte
	Signature   []byte
}

const tagSign1 = 18

// toBeSigned is the Sig_structure of RFC 9052, sec. 4.4.
func toBeSigned(protected, payload []byte) []byte {
	return encoded([]any{"Signature1", protected, []byte{}, payload})
}

// sign signs a claim. ECDSA draws its numbers from the key and the claim (RFC 6979): the same picture has the same bytes.
func (s *Signer) sign(claim []byte) ([]byte, error) {
	var chain any = s.chain
	if len(s.chain) == 1 {
		chain = s.chain[0]
	}
	protected := encoded(map[int64]any{headerAlg: s.alg.id, headerChain: chain})
	message := toBeSigned(protected, claim)
	options := crypto.SignerOpts(s.alg.hash)
	if s.alg.hash != 0 {
		h := s.alg.hash.New()
		h.Write(message)
		message = h.Sum(nil)
	}
	signature, err := s.key.Sign(nil, message, options)
	if err != nil {
		return nil, fmt.Errorf("signing the C2PA manifest: %w", err)
	}
	if s.alg.side > 0 {
		var halves struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(signature, &halves); err != nil {
			return nil, fmt.Errorf("signing the C2PA manifest: %w", err)
		}
		signature = append(halves.R.FillBytes(make([]byte, s.alg.side)), halves.S.FillBytes(make([]byte, s.alg.side))...)
	}
	return encoded(cbor.Tag{Number: tagSign1, Content: signed{Protected: protected, Unprotected: map[any]any{}, Signature: signature}}), nil
}

// verify checks a signature of a claim and returns the certificates that came with it, the signer's own first.
func verify(signature, claim []byte) ([]*x509.Certificate, error) {
	var tag cbor.RawTag
	if err := decoding.Unmarshal(signature, &tag); err == nil && tag.Number == tagSign1 {
		signature = tag.Content
	}
	var s signed
	if err := decoding.Unmarshal(signature, &s); err != nil {
		return nil, fmt.Errorf("the signature cannot be read: %w", err)
	}
	var header struct {
		Alg   int64           `cbor:"1,keyasint"`
		Chain cbor.RawMessage `cbor:"33,keyasint"`
	}
	if err := decoding.Unmarshal(s.Protected, &header); err != nil {
		return nil, fmt.Errorf("the signature's header cannot be read: %w", err)
	}
	chain := header.Chain
	if chain == nil {
		for _, name := range []any{uint64(headerChain), "x5chain"} {
			if v, ok := s.Unprotected[name]; ok {
				chain = encoded(v)
			}
		}
	}
	certificates, err := readChain(chain)
	if err != nil {
		return nil, err
	}
	return certificates, checkSignature(certificates[0].PublicKey, header.Alg, toBeSigned(s.Protected, claim), s.Signature)
}

func readChain(raw cbor.RawMessage) (all []*x509.Certificate, err error) {
	var list [][]byte
	if decoding.Unmarshal(raw, &list) != nil {
		var one []byte
		if err := decoding.Unmarshal(raw, &one); err != nil {
			return nil, errors.New("the signature has no certificate")
		}
		list = [][]byte{one}
	}
	for _, der := range list {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("the signature's certificate: %w", err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("the signature has no certificate")
	}
	return all, nil
}

var errSignature = errors.New("the signature does not fit the claim: it was changed after it was signed")

func checkSignature(key crypto.PublicKey, id int64, message, signature []byte) error {
	digest := func(a algorithm) []byte {
		h := a.hash.New()
		h.Write(message)
		return h.Sum(nil)
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		for _, a := range []algorithm{es256, es384, es512} {
			if a.id != id || len(signature) != 2*a.side {
				continue
			}
			if r, s := new(big.Int).SetBytes(signature[:a.side]), new(big.Int).SetBytes(signature[a.side:]); ecdsa.Verify(key, digest(a), r, s) {
				return nil
			}
			return errSignature
		}
	case ed25519.PublicKey:
		if id == eddsa.id && ed25519.Verify(key, message, signature) {
			return nil
		}
		return errSignature
	case *rsa.PublicKey:
		for _, a := range []algorithm{ps256, ps384, ps512} {
			if a.id == id && rsa.VerifyPSS(key, a.hash, digest(a), signature, nil) == nil {
				return nil
			} else if a.id == id {
				return errSignature
			}
		}
	}
	return fmt.Errorf("the signature's algorithm (%d) with that certificate is not supported: it was not checked", id)
}
