package c2pa

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// signer writes a certificate of an authority made for the test, with its key, and loads them.
func signer(t testing.TB, key crypto.Signer) *Signer {
	t.Helper()
	issue := func(name string, authority bool, public any, parent *x509.Certificate, by crypto.Signer) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name, Organization: []string{"Test"}}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			BasicConstraintsValid: true, IsCA: authority, KeyUsage: x509.KeyUsageDigitalSignature, SubjectKeyId: []byte(name),
		}
		if authority {
			c.KeyUsage = x509.KeyUsageCertSign
		} else {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
		}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, public, by)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c
	}
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := issue("Authority", true, &root.PublicKey, nil, root)
	leaf := issue("Signer", false, key.Public(), ca, root)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, all ...[]byte) string {
		path := filepath.Join(dir, name)
		var buf bytes.Buffer
		for _, data := range all {
			if err := pem.Encode(&buf, &pem.Block{Type: kind, Bytes: data}); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s, err := Load(write("chain.pem", "CERTIFICATE", leaf.Raw, ca.Raw), write("key.pem", "PRIVATE KEY", der))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var statement = Claim{"Darkroom", "1.2", "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}

// files are a small picture in each format.
func files(t testing.TB) map[string][]byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 20, 10))
	for i := range 200 {
		img.Set(i%20, i/20, color.NRGBA{uint8(i), uint8(2 * i), 90, 255})
	}
	out := map[string][]byte{}
	for name, encode := range map[string]func(*bytes.Buffer) error{
		"png": func(b *bytes.Buffer) error { return png.Encode(b, img) },
		"jpg": func(b *bytes.Buffer) error { return jpeg.Encode(b, img, nil) },
	} {
		var buf bytes.Buffer
		if err := encode(&buf); err != nil {
			t.Fatal(err)
		}
		out[name] = buf.Bytes()
	}
	return out
}

// What is signed fits, the same picture has the same bytes, and a file that was changed anywhere does not fit any more.
func TestManifest(t *testing.T) {
	s := signerOf(t)
	for name, file := range files(t) {
		signed, err := s.Embed(file, statement)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := s.Embed(file, statement); err != nil || !bytes.Equal(signed, again) {
			t.Errorf("%s: signed again, the bytes differ, %v", name, err)
		}
		r, err := Check(signed)
		if err != nil || r == nil {
			t.Fatalf("%s: %v, %v", name, r, err)
		}
		if len(r.Problems) > 0 || r.Generator != "Darkroom 1.2" || r.Source != statement.Source || !strings.Contains(r.Signer, "CN=Signer") || !strings.Contains(r.Issuer, "CN=Authority") {
			t.Errorf("%s: %+v", name, r)
		}
		if _, err := s.Embed(signed, statement); err == nil {
			t.Errorf("%s: a second manifest is taken", name)
		}
		if r, err := Check(file); r != nil || err != nil {
			t.Errorf("%s without a manifest: %v, %v", name, r, err)
		}
		p, err := placeOf(signed)
		if err != nil {
			t.Fatal(err)
		}
		silent := 0
		for i := 0; i < len(signed); i += 3 {
			changed := bytes.Clone(signed)
			changed[i] ^= 1
			if r, err := Check(changed); err == nil && r != nil && len(r.Problems) == 0 {
				if silent++; i < p.at || i >= p.at+p.length {
					t.Errorf("%s: a change of byte %d is not found", name, i)
				}
			}
		}
		// Within the manifest, the frames of boxes and the types of those that are not assertions say nothing.
		if silent > len(signed)/20 {
			t.Errorf("%s: %d of %d changes are not found", name, silent, len(signed))
		}
	}
}

func TestManifestOfOtherKeys(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ed, p384} {
		s := signer(t, key)
		signed, err := s.Embed(files(t)["png"], statement)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := Check(signed); err != nil || len(r.Problems) > 0 {
			t.Errorf("%T: %+v, %v", key, r, err)
		}
	}
	if _, err := Load("none.pem", "none.pem"); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("files that are not there: error %v", err)
	}
	if _, err := signerOf(t).Embed([]byte("GIF89a"), statement); err == nil {
		t.Error("a GIF is taken")
	}
}

func signerOf(t testing.TB) *Signer {
	t.Helper()
	return signer(t, p256(t))
}

// A manifest that needs several segments of a JPEG is put together again.
func TestManifestInSegments(t *testing.T) {
	file := files(t)["jpg"]
	p, err := placeOf(file)
	if err != nil {
		t.Fatal(err)
	}
	m := boxBytes("jumb", bytes.Repeat([]byte("0123456789"), 20_000))
	whole := append(append(bytes.Clone(file[:p.at]), p.wrap(m)...), file[p.at:]...)
	again, err := placeOf(whole)
	if err != nil || !bytes.Equal(again.manifest, m) || again.at != p.at || again.length != len(whole)-len(file) {
		t.Errorf("%d bytes of %d are read back, %v", len(again.manifest), len(m), err)
	}
	if _, err := jpeg.Decode(bytes.NewReader(whole)); err != nil {
		t.Error(err)
	}
}

// Hostile files are no reason to panic.
func FuzzCheck(f *testing.F) {
	s := signerOf(f)
	for _, file := range files(f) {
		signed, err := s.Embed(file, statement)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(signed)
	}
	big := append([]byte(pngSignature), binary.BigEndian.AppendUint32(nil, 1<<31)...)
	f.Add(append(big, "caBX"...))
	f.Fuzz(func(t *testing.T, file []byte) { _, _ = Check(file) })
}

// The C2PA project's own library finds no fault: C2PA_PYTHON=/path/of/python with the package c2pa-python.
func TestManifestByTheOfficialLibrary(t *testing.T) {
	python := os.Getenv("C2PA_PYTHON")
	if python == "" {
		t.Skip("C2PA_PYTHON names no Python with the package c2pa-python")
	}
	s := signerOf(t)
	for name, file := range files(t) {
		signed, err := s.Embed(file, statement)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "x."+name)
		if err := os.WriteFile(path, signed, 0o666); err != nil {
			t.Fatal(err)
		}
		const script = `
import sys
import c2pa
reader = c2pa.Reader(sys.argv[1])
print(reader.get_validation_state())
print(reader.json())
`
		out, err := exec.Command(python, "-W", "ignore", "-c", script, path).CombinedOutput()
		if state, _, _ := strings.Cut(string(out), "\n"); err != nil || state != "Valid" || !strings.Contains(string(out), "trainedAlgorithmicMedia") {
			t.Errorf("%s: %v, %s", name, err, out)
		} else {
			t.Logf("%s: %s", name, state)
		}
	}
}
