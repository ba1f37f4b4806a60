package atomicfile

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"os/signal"
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

func TestWriteReadOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	defer chmod(t, dir, 0o777)
	chmod(t, filepath.Dir(dir), 0o755)
	path := filepath.Join(dir, "a.png")
	asNobody(t, func() {
		for _, err := range []error{Write(path, writeText("x")), Check(path)} {
			want := "cannot write " + path + ": permission denied: the folder " + dir + " may not be written to: choose another place or change its permissions"
			if err == nil || err.Error() != want {
				t.Errorf("error %v\nwant  %s", err, want)
			}
		}
	})
	only(t, dir)
}

func TestWriteFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("SKIPPED: mounting a small disk needs root: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, 0) }()
	path := filepath.Join(dir, "a.png")
	err := Write(path, func(w io.Writer) error { _, err := w.Write(make([]byte, 1<<20)); return err })
	if err == nil || err.Error() != "cannot write "+path+": no space left on device: the disk is full: free some space or choose another place" {
		t.Errorf("error %v", err)
	}
	only(t, dir)
}

// /dev/full needs no root: every write to it finds a full disk. It is not a plain file, and must still be there afterwards.
func TestWriteDevices(t *testing.T) {
	err := Write("/dev/full", writeText("x"))
	if err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("error %v", err)
	}
	if err := Write("/dev/null", writeText("x")); err != nil {
		t.Error(err)
	}
	for _, dev := range []string{"/dev/full", "/dev/null"} {
		if st, err := os.Stat(dev); err != nil || st.Mode()&os.ModeDevice == 0 {
			t.Errorf("%s was replaced", dev)
		}
	}
}

func TestWriteFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "link.png"), filepath.Join(dir, "target.png")
	save(t, target, []byte("before"))
	if err := os.Symlink("target.png", link); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, writeText("after")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(target); string(got) != "after" {
		t.Errorf("target is %q", got)
	}
	if st, _ := os.Lstat(link); st.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
}

// A link to what does not exist yet stays a link, also where it is relative and lies in a folder that is itself a link.
func TestWriteFollowsDanglingLinks(t *testing.T) {
	dir := t.TempDir()
	real, linked := filepath.Join(dir, "real", "deep"), filepath.Join(dir, "linked")
	if err := os.MkdirAll(real, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{linked: "real/deep", filepath.Join(real, "one.png"): "two.png", filepath.Join(real, "two.png"): "../end.png"} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(filepath.Join(linked, "one.png"), writeText("x")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "real", "end.png")); string(got) != "x" {
		t.Errorf("the links' end holds %q", got)
	}
	for _, name := range []string{"one.png", "two.png"} {
		if st, err := os.Lstat(filepath.Join(real, name)); err != nil || st.Mode()&os.ModeSymlink == 0 {
			t.Errorf("the link %s was replaced", name)
		}
	}
	only(t, real, "one.png", "two.png")
}

// TestWriteSizeLimit runs itself in a process that may write files of 4 KiB only.
func TestWriteSizeLimit(t *testing.T) {
	if path := os.Getenv("ATOMICFILE_TEST_PATH"); path != "" {
		signal.Ignore(syscall.SIGXFSZ) // as main does: an error, not death
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4096, Max: 4096}); err != nil {
			t.Fatal(err)
		}
		err := Write(path, func(w io.Writer) error { _, err := w.Write(bytes.Repeat([]byte("x"), 1<<17)); return err })
		if err == nil || !strings.Contains(err.Error(), "larger than the system allows (ulimit -f)") {
			os.Exit(3)
		}
		os.Exit(0)
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriteSizeLimit$")
	cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_PATH="+filepath.Join(dir, "a.png"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	only(t, dir)
}
