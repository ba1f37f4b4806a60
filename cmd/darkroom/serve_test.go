package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// serving runs darkroom serve until the test ends, and gives its address.
func serving(t *testing.T, flags ...string) (url string, stop func() int) {
	t.Helper()
	in, out := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	e := &env{stdin: strings.NewReader(""), stdout: out, stderr: io.Discard}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, e, append([]string{"serve", "--listen", "127.0.0.1:0"}, flags...))
		out.Close()
	}()
	line := make([]byte, 200)
	n, err := in.Read(line)
	if err != nil {
		t.Fatalf("the server ended with %d", <-code)
	}
	url = strings.TrimSuffix(strings.TrimSpace(string(line[:n])), "/")
	ended := -1
	stop = func() int {
		if ended < 0 {
			cancel()
			ended = <-code
		}
		return ended
	}
	t.Cleanup(func() { stop() })
	return url, stop
}

// A server with a queue has its pictures made by a worker, and they are in the history once.
func TestServeWithAWorker(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("DARKROOM_MODELS", dir)
	t.Setenv("DARKROOM_HISTORY", filepath.Join(dir, "history.jsonl"))
	t.Setenv("DARKROOM_CONFIG", "off")
	if code := run(t.Context(), &env{stdout: io.Discard, stderr: io.Discard}, []string{"serve", "-o", "out", "--queue", "nats://127.0.0.1:1"}); code != exitFailed {
		t.Errorf("without a queue: exit code %d", code)
	}
	address := freeAddress(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var log lockedBuffer
	ended := make(chan int, 1)
	go func() {
		e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: &log}
		ended <- run(ctx, e, []string{"worker", "--embedded", "--listen", address, "--queue-dir", "queue", "-o", "out", "--id", "w1"})
	}()
	for i := 0; !strings.Contains(log.String(), "worker started"); i++ {
		if i == 500 {
			t.Fatalf("the worker does not start: %s", log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	url, stop := serving(t, "-o", "out", "--queue", "nats://"+address)
	response, err := http.Post(url+"/v1/images/generations", "application/json", strings.NewReader(`{"prompt":"a red apple","seed":3,"steps":2,"size":"64x64"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%d, %v, %s, worker %s", response.StatusCode, err, text, log.String())
	}
	if code := stop(); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	var out bytes.Buffer
	if code := run(t.Context(), &env{stdout: &out, stderr: io.Discard}, []string{"history", "--json"}); code != exitDone || strings.Count(out.String(), "a red apple") != 1 {
		t.Errorf("exit code %d, history %s", code, out.String())
	}
	records, err := os.ReadFile(filepath.Join("out", "manifest.jsonl"))
	if err != nil || !strings.Contains(string(records), `"worker":"w1"`) {
		t.Errorf("%v, %s", err, records)
	}
	interrupt()
	if code := <-ended; code != exitDone {
		t.Errorf("the worker's exit code: %d, %s", code, log.String())
	}
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("DARKROOM_MODELS", dir)
	t.Setenv("DARKROOM_HISTORY", filepath.Join(dir, "history.jsonl"))
	t.Setenv("DARKROOM_CONFIG", "off")
	url, stop := serving(t, "-o", "out", "--api-key", "k")
	if code := run(t.Context(), &env{stdout: io.Discard, stderr: io.Discard}, []string{"serve", "--check", url}); code != exitDone {
		t.Errorf("--check: exit code %d", code)
	}
	r, err := http.NewRequest("POST", url+"/v1/images/generations", strings.NewReader(`{"prompt":"a red apple","seed":3,"steps":2,"size":"64x64"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer k")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct{ Data []struct{ Seed uint64 } }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != 200 || answer.Data[0].Seed != 3 {
		t.Fatalf("%d, %v, %+v", response.StatusCode, err, answer)
	}
	if code := stop(); code != exitDone {
		t.Errorf("after its end: exit code %d", code)
	}
	if code := run(t.Context(), &env{stdout: io.Discard, stderr: io.Discard}, []string{"serve", "--check", url}); code != exitFailed {
		t.Errorf("--check of a server that is gone: exit code %d", code)
	}
	// The history has it, and its command makes the same picture.
	var out bytes.Buffer
	if code := run(t.Context(), &env{stdout: &out, stderr: io.Discard}, []string{"history", "--json"}); code != exitDone || !strings.Contains(out.String(), "a red apple") {
		t.Fatalf("history: %d, %s", code, out.String())
	}
	var entry struct{ File string }
	if err := json.Unmarshal(out.Bytes(), &entry); err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadFile(entry.File)
	if err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), &env{stdout: io.Discard, stderr: io.Discard}, []string{"generate", "--from", entry.File, "-o", "again.png"}); code != exitDone {
		t.Fatalf("generate --from: %d", code)
	}
	if again, err := os.ReadFile("again.png"); err != nil || !bytes.Equal(again, made) {
		t.Errorf("the picture is another when it is made again, %v", err)
	}
}

func TestServeUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct{ flags, want string }{
		{"--listen 0.0.0.0:0", "--api-key"},
		{"--listen nonsense", "nonsense"},
		{"--api-auth nobody", "USER:PASSWORD"},
		{"--cors example.org", "--cors"},
		{"--max-pixels 0", "--max-pixels"},
		{"--tls-cert x", "--tls-key"},
		{"--tls-cert x --tls-key y", "--tls-cert x"},
		{"--model nothing", "nothing"},
		{"word", "word"},
	} {
		var text bytes.Buffer
		code := run(t.Context(), &env{stdout: io.Discard, stderr: &text}, append([]string{"serve", "-o", "out"}, strings.Fields(c.flags)...))
		if code != exitUsage || !strings.Contains(text.String(), c.want) {
			t.Errorf("serve %s: exit code %d, %s", c.flags, code, text.String())
		}
	}
}

// The flags that deploy's files give exist, and systemd reads its unit.
func TestDeploy(t *testing.T) {
	var names []string
	for _, f := range serveCommand(&env{}).Flags {
		names = append(names, f.Names()...)
	}
	flag := regexp.MustCompile(`--([a-z][a-z-]+)`)
	for _, file := range []string{"Dockerfile", "Dockerfile.cuda", "darkroom.service"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "#") || !strings.HasPrefix(line, "CMD") && !strings.HasPrefix(line, "ExecStart") && !strings.HasPrefix(line, "HEALTHCHECK") {
				continue
			}
			_, line, _ = strings.Cut(line, "serve")
			for _, m := range flag.FindAllStringSubmatch(line, -1) {
				if found++; !slices.Contains(names, m[1]) {
					t.Errorf("%s gives --%s, which serve does not have", file, m[1])
				}
			}
		}
		if found == 0 {
			t.Errorf("%s gives serve no flags: this test sees too little", file)
		}
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("SKIPPED: no systemd-analyze here: the unit is not checked by systemd")
	}
	unit, err := os.ReadFile(filepath.Join("..", "..", "deploy", "darkroom.service"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.Executable() // systemd looks for the program
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "darkroom.service")
	if err := os.WriteFile(path, bytes.ReplaceAll(unit, []byte("/usr/local/bin/darkroom"), []byte(own)), 0o666); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "systemd-analyze", "verify", "--man=no", path).CombinedOutput(); err != nil || bytes.Contains(out, []byte("darkroom.service:")) {
		t.Errorf("%v: %s", err, out)
	}
}
