package meter

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func zone(t *testing.T, folder, zone, name string, now, most uint64) {
	t.Helper()
	dir := filepath.Join(folder, zone)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"name": name, "energy_uj": fmt.Sprint(now), "max_energy_range_uj": fmt.Sprint(most)} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// A counter that begins again goes on; parts of packages are not counted twice.
func TestProcessors(t *testing.T) {
	dir := t.TempDir()
	zone(t, dir, "intel-rapl:0", "package-0", 9_000_000, 10_000_000)
	zone(t, dir, "intel-rapl:0:0", "core", 1_000_000, 10_000_000)
	zone(t, dir, "intel-rapl:1", "package-1", 0, 10_000_000)
	p := OpenProcessors(dir)
	want := func(first, second float64) {
		t.Helper()
		all := p.Read()
		if len(all) != 2 || all[0].Device != "cpu:0" || all[0].Joules != first || all[1].Joules != second || !all[0].Energy {
			t.Errorf("%+v, not %v and %v J", all, first, second)
		}
	}
	want(9, 0)
	zone(t, dir, "intel-rapl:0", "package-0", 500_000, 10_000_000)
	zone(t, dir, "intel-rapl:1", "package-1", 2_000_000, 10_000_000)
	want(10.5, 2)
	want(10.5, 2)
	if err := os.Remove(filepath.Join(dir, "intel-rapl:0", "energy_uj")); err != nil {
		t.Fatal(err)
	}
	if all := p.Read(); len(all) != 1 {
		t.Errorf("%+v: a counter that cannot be read is left out", all)
	}
	if all := OpenProcessors(filepath.Join(dir, "none")).Read(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

func TestGPUs(t *testing.T) {
	all := OpenGPUs().Read()
	if len(all) == 0 {
		t.Skip("SKIPPED: no NVIDIA GPU here")
	}
	for _, r := range all {
		if r.Name == "" || r.MemoryUsed > r.MemoryTotal || r.MemoryTotal < 1<<30 {
			t.Errorf("%+v", r)
		}
	}
}
