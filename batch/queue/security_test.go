package queue

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"darkroom/batch/queue/server"
)

// certificate writes a certificate for this machine that signs itself, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "queue"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8)
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	s, err := server.Start(server.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret", Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Connect(t.Context(), Options{URL: s.URL(), Token: "secret"}); err == nil {
		t.Error("connected to a server whose certificate nobody vouches for")
	}
	q, err := Connect(t.Context(), Options{URL: s.URL(), Token: "secret", CA: cert})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if state, err := q.conn.TLSConnectionState(); err != nil || !state.HandshakeComplete {
		t.Errorf("the connection is not encrypted: %v", err)
	}
	if _, err := Connect(t.Context(), Options{URL: s.URL(), Cert: cert}); err == nil || err.Error() != "a client's certificate and its key belong together: give both" {
		t.Error(err)
	}
}

// serve starts a NATS server of its own on a free port, until the test ends.
func serve(t *testing.T, o natsserver.Options) *natsserver.Server {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", natsserver.RANDOM_PORT, true, true
	s, err := natsserver.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(s.Shutdown)
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s
}

func TestNKey(t *testing.T) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := pair.PublicKey()
	seed, _ := pair.Seed()
	file := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, natsserver.Options{JetStream: true, StoreDir: t.TempDir(), Nkeys: []*natsserver.NkeyUser{{Nkey: public}}})
	if _, err := Connect(t.Context(), Options{URL: s.ClientURL()}); err == nil {
		t.Error("connected without a key")
	}
	q, err := Connect(t.Context(), Options{URL: s.ClientURL(), NKey: file})
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
}

// TestCredentials connects with a credentials file, as an operator of a NATS cluster hands them out.
func TestCredentials(t *testing.T) {
	pair := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		k, err := create()
		if err != nil {
			t.Fatal(err)
		}
		public, err := k.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return k, public
	}
	signed := func(claims jwt.Claims, by nkeys.KeyPair) string {
		token, err := claims.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	operator, operatorID := pair(nkeys.CreateOperator)
	account, accountID := pair(nkeys.CreateAccount)
	_, systemID := pair(nkeys.CreateAccount)
	user, userID := pair(nkeys.CreateUser)
	claims := jwt.NewAccountClaims(accountID)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	resolver := &natsserver.MemAccResolver{}
	for id, token := range map[string]string{accountID: signed(claims, operator), systemID: signed(jwt.NewAccountClaims(systemID), operator)} {
		if err := resolver.Store(id, token); err != nil {
			t.Fatal(err)
		}
	}
	trusted, err := jwt.DecodeOperatorClaims(signed(jwt.NewOperatorClaims(operatorID), operator))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, natsserver.Options{JetStream: true, StoreDir: t.TempDir(),
		TrustedOperators: []*jwt.OperatorClaims{trusted}, AccountResolver: resolver, SystemAccount: systemID})
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(signed(jwt.NewUserClaims(userID), account), seed)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "worker.creds")
	if err := os.WriteFile(file, creds, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(t.Context(), Options{URL: s.ClientURL()}); err == nil {
		t.Error("connected without credentials")
	}
	q, err := Connect(t.Context(), Options{URL: s.ClientURL(), Creds: file})
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
}

// TestWithoutJetStream: a server that cannot keep jobs says so.
func TestWithoutJetStream(t *testing.T) {
	s := serve(t, natsserver.Options{})
	_, err := Connect(t.Context(), Options{URL: s.ClientURL()})
	if want := "queue " + s.ClientURL() + ": its JetStream is off: start nats-server with -js"; err == nil || err.Error() != want {
		t.Errorf("%v, not %s", err, want)
	}
}
