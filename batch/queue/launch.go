package queue

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// ServerProgram is the program that serves a queue. It is one of its own because what it is made of would take a third of
// darkroom's first build.
const ServerProgram = "darkroom-queue"

// ServerVariable names another program than the one beside darkroom or on the PATH.
const ServerVariable = "DARKROOM_QUEUE_SERVER"

// ServerOptions say what to serve. The names are those of server.Options.
type ServerOptions struct {
	Dir    string `json:"dir"`    // where queued jobs are kept
	Listen string `json:"listen"` // HOST:PORT; "" is 127.0.0.1:4222, port 0 any free one
	Token  string `json:"token"`  // that clients must give; needed to listen beyond this machine
	Cert   string `json:"cert"`   // the server's certificate and key, for TLS
	Key    string `json:"key"`
}

// Server is a queue's server, a process that ends with this one.
type Server struct {
	url   string
	stdin io.Closer
	done  chan struct{} // closed when the program has ended
	kill  func() error
}

// StartServer starts a server whose streams are kept in a folder. It is ready when StartServer returns.
func StartServer(o ServerOptions) (*Server, error) {
	program, err := serverProgram()
	if err != nil {
		return nil, err
	}
	s, err := launch(program, o)
	if err != nil {
		return nil, fmt.Errorf("starting the queue's server (%s): %w", program, err)
	}
	return s, nil
}

func serverProgram() (string, error) {
	if path := os.Getenv(ServerVariable); path != "" {
		return path, nil
	}
	name := ServerProgram
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	folder := "darkroom"
	if self, err := os.Executable(); err == nil {
		folder = filepath.Dir(self)
		if beside := filepath.Join(folder, name); executable(beside) {
			return beside, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("the queue's server is the program %s, which is neither in %s nor on the PATH: build it with go build -o FOLDER ./cmd/%s (make and make install do), or run a nats-server with JetStream and name it with --queue", ServerProgram, folder, ServerProgram)
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// launch runs the program and waits until it serves. Options go through its stdin, because a token must not be seen in the list
// of processes.
func launch(program string, o ServerOptions) (*Server, error) {
	cmd := exec.Command(program, "--stdin")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Server{stdin: stdin, done: make(chan struct{}), kill: cmd.Process.Kill}
	text, err := json.Marshal(struct {
		ServerOptions
		MaxMessage int `json:"max_message"`
	}{o, maxMessage + 1<<16})
	if err == nil {
		_, err = stdin.Write(append(text, '\n'))
	}
	var reply struct{ URL, Error string }
	if err == nil {
		var line []byte
		if line, err = bufio.NewReader(stdout).ReadBytes('\n'); err == nil {
			err = json.Unmarshal(line, &reply)
		}
	}
	go func() {
		_ = cmd.Wait() // how it ended says nothing: what matters it has said
		close(s.done)
	}()
	if err == nil && reply.Error != "" {
		err = errors.New(reply.Error)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.url = reply.URL
	return s, nil
}

// URL is the address for clients on this machine.
func (s *Server) URL() string { return s.url }

// Close stops the server. What is queued stays in its folder.
func (s *Server) Close() {
	s.stdin.Close()
	select {
	case <-s.done:
	case <-time.After(20 * time.Second):
		_ = s.kill()
		<-s.done
	}
}
