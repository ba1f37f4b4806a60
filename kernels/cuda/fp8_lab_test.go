//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"darkroom/tensor"
)

// Each of these mistakes, planted into a copy of kernels/lab/fp8, must be found.
func TestFloat8PlantedBugs(t *testing.T) {
	if os.Getenv("LAB") != "fp8" {
		t.Skip("run by kernels/lab/lab.sh")
	}
	for _, bug := range []struct {
		name, file, was, is string
		tests, complains    string
	}{
		{"the scale of the row before", "fp8.cuh", "m < g.m ? p.scale_a[m]", "m < g.m ? p.scale_a[max(m - 1, 0)]", "Products", `the error is`},
		{"the scale of the column before", "fp8.cuh", "n + e < g.n ? p.scale_b[n + e]", "n + e < g.n ? p.scale_b[max(n + e - 1, 0)]", "Products", `the error is`},
		{"no zeros behind a row", "fp8.cuh", "k < r.pitch; k += 8 * 32) {", "k < r.c1 + r.c2; k += 8 * 32) {", "Products", `the result is NaN`},
		{"the row's last values left out", "fp8.cuh", "int count = g.k / L::kDepth;", "int count = (g.k - 1) / L::kDepth;", "Products", `the error is`},
		{"no barrier before a tile is used", "fp8.cuh", "    __syncthreads(); // the next stage has come", "    // the next stage has come", "Products", `is NaN|the error is`},
		{"a maximum with its sign", "fp8.cuh", "fmaxf(most, fabsf(v[i]))", "fmaxf(most, v[i])", "Rows", `the scale is`},
		{"two bytes exchanged", "fp8.cuh", "to_e4m3(v[4 * i] * factor, v[4 * i + 1] * factor)", "to_e4m3(v[4 * i + 1] * factor, v[4 * i] * factor)", "Rows", `want 0x`},
	} {
		t.Run(bug.name, func(t *testing.T) {
			library := plantFloat8(t, bug.file, bug.was, bug.is)
			out, err := child("^TestFloat8"+bug.tests+"$/^f16_(64x64$|[0-9]+×)", "LD_LIBRARY_PATH="+library)
			if err == nil {
				t.Fatalf("nobody noticed:\n%s", out)
			}
			if !regexp.MustCompile(bug.complains).MatchString(out) {
				t.Errorf("found, but not by its name /%s/:\n%.2000s", bug.complains, out)
			}
		})
	}
}

// plantFloat8 builds an emulated device from a copy of kernels/lab/fp8 with one piece of text replaced, and returns the folder
// that it is in. It needs only float16, on the smallest tile.
func plantFloat8(t *testing.T, file, was, is string) string {
	t.Helper()
	library, source := t.TempDir(), t.TempDir()
	copyAll(t, "../lab/fp8/*.cu*", source)
	for path, change := range map[string]func(string) string{
		file: func(s string) string {
			if n := strings.Count(s, was); n != 1 {
				t.Fatalf("%s holds %q %d times", file, was, n)
			}
			return strings.Replace(s, was, is, 1)
		},
		"fp8.cu": func(s string) string {
			s = regexp.MustCompile(`.*(bfloat_t\)|name##_128x.*)\n`).ReplaceAllString(s, "")
			return s
		},
	} {
		body, err := os.ReadFile(filepath.Join(source, path))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(source, path), change(string(body)))
	}
	copyAll(t, filepath.Join(os.Getenv("LD_LIBRARY_PATH"), "*.o"), library)
	if err := os.Remove(filepath.Join(library, "fp8.cu.o")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("emu/build.sh", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return library
}

// float8Case is a shape to count: a product in float8, the same in float16, or the rounding of its rows.
type float8Case struct {
	k      int
	family *family // nil: the rounding
	half   bool
}

func float8Cases() (all []float8Case) {
	for _, k := range []int{320, 1280} {
		all = append(all, float8Case{k: k})
	}
	for _, half := range []bool{false, true} {
		for i := range families[:3] {
			for _, k := range []int{320, 1280} {
				all = append(all, float8Case{k, &families[i], half})
			}
		}
	}
	return all
}

// TestFloat8Counts counts what blocks execute, on the PTX interpreter, for 640×512 results whose sums are not split. What it
// writes to the file that COUNTS names is the products'; the rounding is logged.
func TestFloat8Counts(t *testing.T) {
	path := os.Getenv("COUNTS")
	if os.Getenv("LAB") != "fp8" || path == "" {
		t.Skip("run by kernels/lab/lab.sh")
	}
	var lines []string
	for i, c := range float8Cases() {
		report := filepath.Join(t.TempDir(), "report")
		if out, err := child("^TestFloat8CountSubject$", fmt.Sprint("COUNT=", i), "EMU_REPORT="+report); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		body, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSpace(string(body))
		if c.family == nil {
			t.Logf("%d rows of %d: %s", float8Rows, c.k, line)
			continue
		}
		steps := c.k / float8Depth
		if c.half {
			steps = c.k / depth
		}
		blocks := float8Rows * float8Columns / c.family.m / c.family.n
		lines = append(lines, strings.Replace(line, "{", fmt.Sprintf(`{"case":"linear %d","blocks":%d,"steps":%d,`, c.k, blocks, steps), 1))
	}
	write(t, path, strings.Join(lines, "\n")+"\n")
}

const float8Rows, float8Columns = 640, 512

func TestFloat8CountSubject(t *testing.T) {
	var i int
	if n, _ := fmt.Sscan(os.Getenv("COUNT"), &i); n == 0 {
		t.Skip("run by TestFloat8Counts")
	}
	b, c := openFloat8(t, tensor.F16), float8Cases()[i]
	zeros := func(n int) mem { return b.send(make([]byte, n)) }
	scales := zeros(4 * float8Rows)
	d := zeros(2 * float8Rows * max(c.k, float8Columns))
	switch {
	case c.family == nil:
		b.round(roundRows{a: zeros(2 * float8Rows * c.k).at, d: d.at, scales: scales.at, rows: float8Rows, c1: int32(c.k), pitch: int32(c.k)})
	default:
		p := float8{g: b.matrixProduct(float8Rows, float8Columns, c.k), scaleA: scales.at, scaleB: scales.at}
		p.g.a, p.g.b, p.g.d, p.g.bias = zeros(2*float8Rows*c.k).at, zeros(2*float8Columns*c.k).at, d.at, scales.at
		if c.half {
			defer b.enter()()
			b.product(p.g, c.family)
		} else {
			b.multiply(c.family, p)
		}
	}
	b.receive(d)
}
