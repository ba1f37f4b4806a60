package machine

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestMachine(t *testing.T) {
	if Processor() == "" {
		t.Error("the processor has no name")
	}
	total, known := Memory()
	free, freeKnown := FreeMemory()
	if want := runtime.GOOS == "linux"; known != want || freeKnown != want {
		t.Errorf("known %v and %v on %s", known, freeKnown, runtime.GOOS)
	}
	if known && (free == 0 || free > total || total < 1<<26) {
		t.Errorf("%d of %d bytes are free", free, total)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestMeminfo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meminfo")
	write(t, file, "MemTotal:       16384 kB\nMemFree: 5 kB\nMemAvailable:    8192 kB\nHugePages: many kB\n")
	for key, want := range map[string]uint64{"MemTotal:": 16 << 20, "MemAvailable:": 8 << 20} {
		if got, known := meminfo(file, key); got != want || !known {
			t.Errorf("%s %d, %v; want %d", key, got, known, want)
		}
	}
	for _, key := range []string{"Absent:", "HugePages:"} {
		if _, known := meminfo(file, key); known {
			t.Errorf("%s is known", key)
		}
	}
	if _, known := meminfo(file+"x", "MemTotal:"); known {
		t.Error("a file that is not there is known")
	}
}

// The group's limit is the tightest on the way to the root; what is used already counts against each.
func TestGroupLimit(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/a/memory.max", "1000\n")
	write(t, root+"/a/memory.current", "900\n")
	write(t, root+"/a/b/memory.max", "500\n")
	write(t, root+"/a/b/memory.current", "50\n")
	write(t, root+"/a/c/memory.max", "max\n")
	write(t, root+"/a/c/memory.current", "50\n")
	write(t, root+"/full/memory.max", "5\n")
	write(t, root+"/full/memory.current", "50\n")
	const unlimited = ^uint64(0)
	for membership, want := range map[string]uint64{
		"0::/a/b\n": 100, "0::/a/c\n": 100, "0::/full\n": 0, "0::/\n": unlimited, "0::/elsewhere\n": unlimited, "1:memory:/a/b\n": unlimited, "": unlimited,
	} {
		if got := groupLimit(root, membership); got != want {
			t.Errorf("%q: %d, want %d", membership, got, want)
		}
	}
}
