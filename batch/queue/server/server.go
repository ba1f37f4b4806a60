// Package server runs the queue's server, a nats-server whose streams are kept in a folder. It is not part of the
// darkroom program, whose build it would slow down by a third: cmd/darkroom-queue is, and tests are.
package server

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"darkroom/machine"

	"github.com/nats-io/nats-server/v2/server"
)

// Options say what to serve.
type Options struct {
	Dir        string `json:"dir"`         // where queued jobs are kept
	Listen     string `json:"listen"`      // HOST:PORT; "" is 127.0.0.1:4222, port 0 any free one
	Token      string `json:"token"`       // that clients must give; needed to listen beyond this machine
	Cert       string `json:"cert"`        // the server's certificate and key, for TLS
	Key        string `json:"key"`         //
	MaxMessage int    `json:"max_message"` // bytes of the largest message; 0: 8 MiB
}

// Server is a nats-server within this program.
type Server struct {
	s    *server.Server
	lock *os.File
}

// Start starts a server whose streams are kept in a folder. It is ready when Start returns.
func Start(o Options) (_ *Server, err error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:4222"
	}
	host, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: HOST:PORT is needed, such as 127.0.0.1:4222", o.Listen)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return nil, fmt.Errorf("listening on %q: the port must be from 0 to 65535", o.Listen)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	if ip := net.ParseIP(host); o.Token == "" && !(host == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil, fmt.Errorf("listening on %s without a token: everybody who reaches this machine could submit jobs: give --queue-token, or listen on 127.0.0.1", o.Listen)
	}
	so := &server.Options{
		ServerName: "darkroom", Host: host, Port: port, JetStream: true, StoreDir: o.Dir, NoSigs: true, NoLog: true,
		Authorization: o.Token, MaxPayload: int32(cmp.Or(o.MaxMessage, 8<<20)), SyncInterval: 5 * time.Second, DisableJetStreamBanner: true,
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("the server's certificate and its key belong together: give both")
	}
	if o.Cert != "" {
		so.TLS = true
		if so.TLSConfig, err = server.GenTLSConfig(&server.TLSConfigOpts{CertFile: o.Cert, KeyFile: o.Key}); err != nil {
			return nil, fmt.Errorf("the server's certificate: %w", err)
		}
	}
	// Two servers on one folder would lose jobs.
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	s, err := server.NewServer(so)
	if err != nil {
		return nil, fmt.Errorf("starting the queue's server: %w", err)
	}
	go s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		return nil, fmt.Errorf("starting the queue's server on %s: it is not ready: is another one listening there or using %s?", o.Listen, o.Dir)
	}
	if !s.JetStreamEnabled() {
		s.Shutdown()
		return nil, fmt.Errorf("starting the queue's server: its folder %s cannot be used", o.Dir)
	}
	return &Server{s, lock}, nil
}

// lockFolder makes the folder of a server, for its user alone, and locks it.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the queue's folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the queue's folder %s cannot be written to: %w: choose another with --queue-dir", dir, err)
	}
	if err := machine.Lock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("the queue's folder %s is in use by another server: wait for it, or choose another with --queue-dir", dir)
	}
	return f, nil
}

// URL is the address for clients on this machine.
func (s *Server) URL() string { return s.s.ClientURL() }

// Close stops the server. What is queued stays in its folder.
func (s *Server) Close() {
	defer s.lock.Close()
	down := make(chan struct{})
	go func() {
		defer close(down)
		s.s.Shutdown()
		s.s.WaitForShutdown()
	}()
	select {
	case <-down:
	case <-time.After(5 * time.Second): // a disk that hangs
	}
}
