package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// asNobody runs f on a thread that looks at files with the rights of a user who has none, so that the test means
// something when run by root.
func asNobody(t *testing.T, f func()) {
	done := make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		if errno == 0 {
			f()
			_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, before, 0, 0)
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Skipf("SKIPPED: setfsuid: %v", errno)
	}
}

// A folder that may not be written to is found out before the picture is made.
func TestReadOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	chmod(t, filepath.Dir(dir), 0o755)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	defer chmod(t, dir, 0o777)
	file := filepath.Join(dir, "x.png")
	for _, out := range []string{file, dir} {
		var stdout, stderr bytes.Buffer
		e := &env{stdout: &stdout, stderr: &stderr}
		var code int
		asNobody(t, func() { // on this thread: run would take another
			err := newApp(e).run(context.Background(), []string{"generate", "x", "-o", out})
			code = report(context.Background(), e, err)
		})
		want := ": permission denied: the folder " + dir + " may not be written to: choose another place or change its permissions\n"
		if code != 1 || stdout.Len() > 0 || !strings.HasPrefix(stderr.String(), "darkroom: cannot write "+dir) || !strings.HasSuffix(stderr.String(), want) {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
		}
	}
}

func TestFullDisk(t *testing.T) {
	code, out, errs := command(t, "", "generate", "x", "--model", tiny, "--steps", "1", "-q", "-o", "/dev/full")
	if code != 1 || out != "" || errs != "darkroom: cannot write /dev/full: no space left on device: the disk is full: free some space or choose another place\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var stderr bytes.Buffer
	code = run(context.Background(), &env{stdout: full, stderr: &stderr}, []string{"generate", "x", "--model", tiny, "--steps", "1", "-q", "-o", "-"})
	if code != 1 || !strings.Contains(stderr.String(), "writing the picture to stdout: ") || !strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("stdout: exit code %d, stderr %q", code, stderr.String())
	}
}

// A disk that fills up leaves no half file.
func TestFullFolder(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Skipf("SKIPPED: mounting a small disk needs root: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, 0) }()
	code, out, errs := command(t, "", "generate", "x", "--model", tiny, "--width", "64", "--height", "64", "--steps", "1", "-q", "-o", filepath.Join(dir, "x.png"))
	if code != 1 || out != "" || !strings.Contains(errs, "the disk is full: free some space or choose another place") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	if got := files(t, dir); got != "" {
		t.Errorf("the folder holds %s", got)
	}
}
