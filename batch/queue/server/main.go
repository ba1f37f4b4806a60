package server

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// Reply is what a server that was started by another program says when it is ready, or that it is not.
type Reply struct {
	URL   string `json:"url,omitempty"`
	Error string `json:"error,omitempty"`
}

// Main is the program darkroom-queue. With --stdin another program runs it: it reads its Options as a line of JSON from stdin,
// replies with a line of JSON, and serves until stdin ends, so that it never outlives the other.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("darkroom-queue", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, `darkroom-queue is a queue for darkroom worker and darkroom batch --queue. The token for clients comes from
DARKROOM_QUEUE_TOKEN; without one, only this machine is served.

`)
		f.PrintDefaults()
	}
	o := Options{Token: os.Getenv("DARKROOM_QUEUE_TOKEN")}
	piped := f.Bool("stdin", false, "run under another program: options come as JSON, and the end of stdin ends it")
	f.StringVar(&o.Dir, "dir", "", "`FOLDER` where queued jobs are kept (default: in the user's cache)")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:4222", "`HOST:PORT`")
	f.StringVar(&o.Cert, "cert", "", "`FILE` with the server's certificate, for TLS")
	f.StringVar(&o.Key, "key", "", "`FILE` with its key")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if f.NArg() > 0 {
		fmt.Fprintf(stderr, "darkroom-queue: %q: it takes no arguments\n", f.Arg(0))
		return 2
	}
	if *piped {
		return serveParent(stdin, stdout)
	}
	if o.Dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			fmt.Fprintf(stderr, "darkroom-queue: a folder for the queue: %v: give --dir\n", err)
			return 1
		}
		o.Dir = filepath.Join(cache, "darkroom", "queue")
	}
	s, err := Start(o)
	if err != nil {
		fmt.Fprintln(stderr, "darkroom-queue:", err)
		return 1
	}
	defer s.Close()
	fmt.Fprintln(stdout, s.URL())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	<-ctx.Done()
	return 0
}

func serveParent(stdin io.Reader, stdout io.Writer) int {
	signal.Ignore(os.Interrupt, syscall.SIGHUP) // Ctrl-C and a closed terminal are for the parent, which has work to finish
	in := bufio.NewReader(stdin)
	line, err := in.ReadBytes('\n')
	var o Options
	if err == nil {
		err = json.Unmarshal(line, &o)
	}
	var s *Server
	if err == nil {
		s, err = Start(o)
	}
	reply := Reply{}
	if err != nil {
		reply.Error = err.Error()
	} else {
		defer s.Close()
		reply.URL = s.URL()
	}
	if err := json.NewEncoder(stdout).Encode(reply); err != nil || reply.Error != "" {
		return 1
	}
	_, _ = io.Copy(io.Discard, in) // until the parent ends, however that comes
	return 0
}
