package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"darkroom/imagefile"
)

// A signed picture still has its recipe; inspect says that the manifest fits, and after a change that it does not.
func TestSigned(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "- prompt: a\n")
	saveCertificate(t, "cert.pem", "key.pem")
	base := []string{"generate", "a red apple", "--model", model, "--steps", "2", "--seed", "3", "-q", "--c2pa-cert", "cert.pem"}
	for _, name := range []string{"x.png", "x.jpg"} {
		if code, _, errs := command(t, "", append(base, "--c2pa-key", "key.pem", "-o", name)...); code != 0 {
			t.Fatalf("%s: exit code %d, %s", name, code, errs)
		}
		if info, err := imagefile.Inspect(name); err != nil || !info.Complete {
			t.Errorf("%s has no recipe: %v", name, err)
		}
		code, out, errs := command(t, "", "inspect", name)
		if code != 0 || !strings.Contains(out, "fits") || !strings.Contains(out, "A newspaper") {
			t.Errorf("inspect %s: exit code %d, %s, %s", name, code, out, errs)
		}
		if name == "x.png" {
			continue // whose chunks have checksums of their own
		}
		data := read(t, name)
		data = bytes.Replace(data, []byte("a red apple"), []byte("a ripe pear"), 1)
		if err := os.WriteFile(name, data, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, out, _ := command(t, "", "inspect", name); !strings.Contains(out, "changed after") {
			t.Errorf("inspect of a changed %s: %s", name, out)
		}
	}
	for want, args := range map[string][]string{
		"belong together": base,
		"not in WebP":     append(base, "--c2pa-key", "key.pem", "-o", "x.webp"),
		"none.pem":        append(base, "--c2pa-key", "none.pem"),
	} {
		if code, _, errs := command(t, "", args...); code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%q: exit code %d, %s, want %q", args, code, errs, want)
		}
	}
}

// saveCertificate writes a certificate that vouches for itself, and its private key.
func saveCertificate(t *testing.T, cert, private string) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "A newspaper"}, NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(nil, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, private: {Type: "PRIVATE KEY", Bytes: bytes}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
