package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates, for the server and for its clients.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("authority", true)
	return a
}

// sign makes NAME.pem and NAME.key.
func (a *authority) sign(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if ca {
		c.KeyUsage |= x509.KeyUsageCertSign
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for ext, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.path(name+ext), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return c, key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// client is an HTTP client that trusts the authority, with a certificate of its own if name is not "".
func (a *authority) client(name string) *http.Client {
	a.t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(a.cert)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(a.path(name+".pem"), a.path(name+".key"))
		if err != nil {
			a.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// Over TLS, a client without a certificate of the authority gets nothing.
func TestClientCertificates(t *testing.T) {
	a := newAuthority(t)
	a.sign("server", false)
	a.sign("friend", false)
	other := newAuthority(t)
	other.sign("stranger", false)
	for _, ext := range []string{".pem", ".key"} {
		data, err := os.ReadFile(other.path("stranger" + ext))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(a.path("stranger"+ext), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	t.Setenv("DARKROOM_MODELS", dir)
	o := Options{Folder: dir, Engines: simulate(0, 1)}
	l, err := Listen(ListenOptions{Address: "0.0.0.0:0", Cert: a.path("server.pem"), Key: a.path("server.key"), ClientCA: a.path("authority.pem")}, &o.Security)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, time.Second) }()
	url := fmt.Sprintf("https://127.0.0.1:%d/v1/models", l.Addr().(*net.TCPAddr).Port)
	for name, want := range map[string]bool{"friend": true, "stranger": false, "": false} {
		response, err := a.client(name).Get(url)
		if err == nil {
			response.Body.Close()
		}
		if ok := err == nil && response.StatusCode == 200; ok != want {
			t.Errorf("client %q is let in: %v, %v", name, ok, err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A client that stops sending its headers is let go of.
func TestSlowHeaders(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes ten seconds: run without -short")
	}
	dir := t.TempDir()
	t.Setenv("DARKROOM_MODELS", dir)
	o := Options{Folder: dir, Engines: simulate(0, 1)}
	l, err := Listen(ListenOptions{Address: "127.0.0.1:0"}, &o.Security)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, time.Second) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: loc")
	begun := time.Now()
	if err := c.SetReadDeadline(begun.Add(3 * headerTime)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	for err == nil {
		_, err = c.Read(buf)
	}
	if d := time.Since(begun); d > 2*headerTime {
		t.Errorf("the connection was kept for %v: %v", d, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
