package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"darkroom/atomicfile"
	"darkroom/server/dispatch"

	"golang.org/x/net/netutil"
)

// ListenOptions say where a server is reached.
type ListenOptions struct {
	Address   string // HOST:PORT
	Cert, Key string // files of TLS; "": none
	ClientCA  string // a file of certificates that sign those of clients, which are asked for then
	Insecure  bool   // beyond this machine without credentials
}

// Listen checks that strangers cannot get in, and listens.
func Listen(o ListenOptions, s *Security) (net.Listener, error) {
	s.ClientCerts = o.ClientCA != ""
	switch {
	case (o.Cert == "") != (o.Key == ""):
		return nil, errors.New("--tls-cert and --tls-key belong together: give both")
	case o.ClientCA != "" && o.Cert == "":
		return nil, errors.New("--tls-client-ca asks clients for certificates, which needs --tls-cert and --tls-key")
	case !Loopback(o.Address) && s.open() && !o.Insecure:
		return nil, fmt.Errorf("--listen %s is reached from other machines: ask for credentials with --api-key, --api-auth or --tls-client-ca; or give --insecure to let everybody in", o.Address)
	}
	l, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", o.Address, err)
	}
	l = netutil.LimitListener(l, 2048)
	if o.Cert == "" {
		return l, nil
	}
	config, err := o.tls()
	if err != nil {
		l.Close()
		return nil, err
	}
	return tls.NewListener(l, config), nil
}

func (o *ListenOptions) tls() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", o.Cert, o.Key, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if o.ClientCA == "" {
		return config, nil
	}
	text, err := os.ReadFile(o.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--tls-client-ca %s: there is no certificate in it", o.ClientCA)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}

// queueID is the file in the folder of records that says what the server's pictures are called in a queue.
const queueID = "queue-id"

// QueueID is the name of the batch, in a queue, of all pictures of the server in a folder. It is drawn once.
func QueueID(folder string) (string, error) {
	path := filepath.Join(folder, dispatch.Records, queueID)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return "", fmt.Errorf("the output folder: %w", err)
	}
	id := "serve-" + dispatch.NewID()[:12]
	err := atomicfile.Create(atomicfile.OS{}, path, []byte(id))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if !regexp.MustCompile(`^serve-[a-z0-9]{12}$`).Match(text) {
		return "", fmt.Errorf("%s is damaged: remove it; pictures that are in the queue are then made again", path)
	}
	return string(text), nil
}

// How long clients may take, and how long pictures in work are waited for at the end.
const (
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
)

// Serve answers requests until ctx ends; then the pictures in work are finished, for as long as drain allows, and the rest waits
// for the next start. The server is closed when it returns.
func (s *Server) Serve(ctx context.Context, l net.Listener, drain time.Duration) error {
	h := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	rendering, abort := context.WithCancel(context.Background())
	defer abort()
	go s.Run(rendering)
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		s.o.Log.Info("stopping: finishing the pictures being rendered; the others wait for the next start", "patience", drain.String())
	}
	s.Drain()
	patience := time.AfterFunc(drain, abort)
	<-s.jobs.Settled() // clients that wait for later pictures are told to come again
	patience.Stop()
	last, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if h.Shutdown(last) != nil { // streams of events have no end of their own
		h.Close()
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, s.Close())
}
