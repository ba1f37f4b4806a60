// Command darkroom makes pictures from prompts with latent diffusion models.
//
// Each command has its own file: flags → an options struct → one function, which tests call too. Only this file
// decides exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"darkroom/models/library"
	"darkroom/models/pull"
	"darkroom/pipeline"
)

func main() {
	ignoreSizeSignal()
	ctx, cancel := context.WithCancel(context.Background())
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, status: &status{}}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		<-signals
		cancel()
		<-signals // a second one ends the program at once
		e.status.sweep()
		os.Exit(exitInterrupted)
	}()
	os.Exit(run(ctx, e, os.Args[1:]))
}

// env is what a command gets from outside.
type env struct {
	stdin  io.Reader
	stdout io.Writer   // results
	stderr io.Writer   // progress, warnings, errors
	status *status     // nil is a new one
	drain  atomic.Bool // an interruption waits for the command to end by itself, however long that takes
}

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// patience is how long an interrupted command may take to end by itself: it stops between two operations of a model. After
// that, the program exits without waiting, which is safe, because files get their names only once they are complete.
const patience = 800 * time.Millisecond

// run runs a command line (without the program's name) and returns the exit code.
func run(ctx context.Context, outside *env, args []string) int {
	out := &output{name: "stdout", w: outside.stdout}
	e := &env{stdin: outside.stdin, stdout: out, stderr: &output{name: "stderr", w: outside.stderr}, status: outside.status}
	if e.status == nil {
		e.status = &status{}
	}
	result := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil { // a mistake in this program; its own exit code would say wrong usage
				result <- fmt.Errorf("internal error: %v: please report it with this:\n%s", p, debug.Stack())
			}
		}()
		result <- newApp(e).run(ctx, args)
	}()
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		wait := time.After(patience)
		if e.drain.Load() {
			wait = nil
		}
		select {
		case err = <-result:
		case <-wait:
			err = ctx.Err()
			e.status.sweep()
		}
	}
	if err == nil {
		err = out.failure()
	}
	return report(ctx, e, err)
}

// report tells the user about an error, and the system by the exit code.
func report(ctx context.Context, e *env, err error) int {
	if err == nil {
		return exitDone
	}
	text := printable(err.Error()) + pullHint(err) // it may quote a file
	var usage *usageError
	var request *pipeline.UsageError
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintf(e.stderr, "darkroom: interrupted%s\n", e.status.String())
		return exitInterrupted
	case errors.As(err, &usage):
		fmt.Fprintf(e.stderr, "darkroom: %s\n", text)
		if usage.command != "" {
			fmt.Fprintf(e.stderr, "See: darkroom %s --help\n", usage.command)
		}
		return exitUsage
	case errors.As(err, &request):
		fmt.Fprintf(e.stderr, "darkroom: %s\n", text)
		return exitUsage
	}
	fmt.Fprintf(e.stderr, "darkroom: %s\n", text)
	return exitFailed
}

// pullHint says how to get a model that is missing, if pull knows its name.
func pullHint(err error) string {
	var missing *library.NotFoundError
	if !errors.As(err, &missing) {
		return ""
	}
	s, known := pull.Named(missing.Name)
	if !known {
		return ""
	}
	return fmt.Sprintf("; darkroom pull %s fetches it (%s; licence: %s)", s.Name, s.About, s.Licence)
}

// usageError reports an invalid command line. Its text says what to do.
type usageError struct {
	command string // whose help tells more; may be ""
	text    string
}

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}
