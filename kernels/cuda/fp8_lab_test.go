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
			library := plantFloat8(t, "fp8.cu", bug.file, bug.was, bug.is)
			found(t, library, "^TestFloat8"+bug.tests+"$/^f16_(64x64$|[0-9]+×)", bug.complains)
		})
	}
}

// found runs tests on a device with a mistake, and wants one to complain of it.
func found(t *testing.T, library, tests, complains string) {
	t.Helper()
	out, err := child(tests, "LD_LIBRARY_PATH="+library)
	if err == nil {
		t.Fatalf("nobody noticed:\n%s", out)
	}
	if !regexp.MustCompile(complains).MatchString(out) {
		t.Errorf("found, but not by its name /%s/:\n%.2000s", complains, out)
	}
}

// Each of these mistakes, planted into copies of Hopper's float8 and of the kernel that it is made of, must be found.
func TestFloat8HopperPlantedBugs(t *testing.T) {
	openHopper8(t, tensor.F16)
	const gemm, fp8, promoted, unpromoted = "gemm_sm90.cuh", "fp8_sm90.cuh", "128x64", "128x64_unpromoted"
	for _, bug := range []struct {
		name, file, was, is string
		kernel, complains   string
	}{
		{"no wgmma.fence", gemm, "      wgmma_fence();\n", "", promoted, `wgmma's accumulators are not ordered by wgmma.fence`},
		{"a descriptor off by 16 bytes", gemm, "b = matrix_descriptor(at + Tile::kA)", "b = matrix_descriptor(at + Tile::kA + 16)", promoted, `is NaN|the error is`},
		{"the other warpgroup's rows", gemm, "at + group * (64 * 128)", "at + (1 - group) * (64 * 128)", promoted, `is NaN|the error is`},
		{"64 bytes further instead of 32", gemm, "wgmma(to, a + 2 * k, b + 2 * k,", "wgmma(to, a + 4 * k, b + 4 * k,", promoted, `is NaN|the error is`},
		{"16 bytes further, as 16 columns are", gemm, "wgmma(to, a + 2 * k, b + 2 * k,", "wgmma(to, a + k, b + k,", promoted, `the error is`},
		{"a stage is 64 columns", gemm, "kColumns = 128 / sizeof(Operand);", "kColumns = 64;", promoted, `is NaN|the error is|deadlock`},
		{"the first product adds", gemm, "(!How::kPromotes && i > work.first) || k > 0", "true", promoted, `is NaN|the error is`},
		{"no scales", gemm, "        scale.apply(m, v);\n", "", promoted, `the error is`},
		{"no wait for a stage's products", fp8, "    wgmma_wait<0>();\n", "", promoted, `is NaN|were written|is under way`},
		{"a stage given back before they are done", fp8, "    wgmma_wait<0>();\n    settled(stage_sums);\n    if (threadIdx.x % 32 == 0) barrier_arrive(empty);\n",
			"    if (threadIdx.x % 32 == 0) barrier_arrive(empty);\n    wgmma_wait<0>();\n    settled(stage_sums);\n", promoted, `is NaN|the error is`},
		{"a stage never given back", fp8, "    if (threadIdx.x % 32 == 0) barrier_arrive(empty);\n", "", promoted, `deadlock: .* at mbarriers`},
		{"only the last stage counts", fp8, "sums.v[i] += stage_sums.v[i]", "sums.v[i] = stage_sums.v[i]", promoted, `the error is`},
		{"sums of the tile before", fp8, "sums.v[i] = 0;", "(void)sums.v[i];", promoted, `is NaN|the error is`},
		{"a wait group left out", gemm, "        wgmma_wait<1>();\n", "", unpromoted, `is NaN|the error is`},
		{"the scale of the row before", fp8, "m < rows ? scale_a[m]", "m < rows ? scale_a[max(m - 1, 0)]", unpromoted, `the error is`},
		{"the scale of the column before", fp8, "n + e < g.n ? scale_b[n + e]", "n + e < g.n ? scale_b[max(n + e - 1, 0)]", unpromoted, `the error is`},
		{"promoted where it should not be", "fp8_sm90.cu", "UNPROMOTED(name, T, N, stages) E4M3_WGMMA(unpromoted_##name, T, N, stages, Unpromoted)", "UNPROMOTED(name, T, N, stages) E4M3_WGMMA(unpromoted_##name, T, N, stages, Promoted)", unpromoted, `the sum is|the error is`},
	} {
		t.Run(bug.name, func(t *testing.T) {
			library := plantFloat8(t, "fp8_sm90.cu", bug.file, bug.was, bug.is)
			found(t, library, "^TestFloat8Hopper(Products|Small)$/^f16_"+bug.kernel+"$", bug.complains)
		})
	}
}

// What nvcc made of Hopper's products, with operands that say that B is N-major: there is no such product of bytes.
func TestFloat8HopperMajors(t *testing.T) {
	openHopper8(t, tensor.F16)
	folder := t.TempDir()
	for _, name := range []string{"fp8_sm90.90a.ptx", "fp8.89.ptx"} {
		body, err := os.ReadFile(filepath.Join(os.Getenv("EMU_PTX"), name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, name), regexp.MustCompile(`(m64n\d+k32\.f32\.e4m3\.e4m3 [^;]*), 1, 1;`).ReplaceAllString(string(body), "$1, 1, 1, 0, 1;"))
	}
	out, err := child("^TestFloat8HopperProducts$/^f16_128x64$/^1×1×1$", "EMU_PTX="+folder)
	if err == nil || !strings.Contains(out, "wgmma of 8 bits takes K-major matrices, and no transposition") {
		t.Errorf("nobody noticed, or not by name: %v\n%.2000s", err, out)
	}
}

// plantFloat8 builds an emulated device from a copy of kernels/lab/fp8, and of what it includes if the mistake is there, with
// one piece of text replaced, and returns the folder that it is in. It needs only the kernels of one source file, in float16 and
// on the smallest tile.
func plantFloat8(t *testing.T, kernels, file, was, is string) string {
	t.Helper()
	library, source := t.TempDir(), t.TempDir()
	copyAll(t, "../lab/fp8/*.cu*", source)
	if _, err := os.Stat(filepath.Join(source, file)); err != nil {
		copyAll(t, file, source)
	}
	change := func(file string, by func(string) string) {
		path := filepath.Join(source, file)
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, by(string(body)))
	}
	change(file, func(s string) string {
		if n := strings.Count(s, was); n != 1 {
			t.Fatalf("%s holds %q %d times", file, was, n)
		}
		return strings.Replace(s, was, is, 1)
	})
	change(kernels, func(s string) string { // a macro's last line ends it without a backslash
		s = regexp.MustCompile(`.*(bfloat_t\)|name##_128x[0-9].*|T, (80|128|160|256), \d\).*)\n`).ReplaceAllString(s, "")
		return regexp.MustCompile(`\\\n(E4M3_\w+\()`).ReplaceAllString(s, "\n$1")
	})
	copyAll(t, filepath.Join(os.Getenv("LD_LIBRARY_PATH"), "*.o"), library)
	if err := os.Remove(filepath.Join(library, kernels+".o")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("emu/build.sh", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return library
}

// float8Case is a shape to count: a product in float8, the same in float16, or the rounding of its rows.
type float8Case struct {
	k     int
	m, n  int                    // of a tile
	depth int                    // of a step
	queue func(b lab8, p float8) // nil: the rounding
}

func float8Cases() (all []float8Case) {
	for _, k := range []int{320, 1280} {
		all = append(all, float8Case{k: k})
	}
	add := func(m, n, depth int, queue func(b lab8, p float8)) {
		for _, k := range []int{320, 1280} {
			all = append(all, float8Case{k, m, n, depth, queue})
		}
	}
	half := func(f *family, depth int) {
		add(f.m, f.n, depth, func(b lab8, p float8) {
			defer b.enter()()
			b.product(p.g, f)
		})
	}
	if os.Getenv("EMU_CC") == "90" {
		for _, k := range hopperKernels8() {
			add(hopperRows, k.Columns, 2*hopperColumns, func(b lab8, p float8) { b.wgmma(k)(p) })
		}
		for i := range families {
			if f := &families[i]; f.class == wgmma {
				half(f, hopperColumns)
			}
		}
		return all
	}
	for i := range families[:3] {
		f := &families[i]
		add(f.m, f.n, float8Depth, func(b lab8, p float8) { b.multiply(f)(p) })
	}
	for i := range families[:3] {
		half(&families[i], depth)
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
		if c.queue == nil {
			t.Logf("%d rows of %d: %s", float8Rows, c.k, line)
			continue
		}
		tiles := ceil(float8Rows, c.m) * ceil(float8Columns, c.n)
		lines = append(lines, strings.Replace(line, "{", fmt.Sprintf(`{"case":"linear %d","blocks":%d,"steps":%d,`, c.k, tiles, ceil(c.k, c.depth)), 1))
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
	case c.queue == nil:
		b.round(roundRows{a: zeros(2 * float8Rows * c.k).at, d: d.at, scales: scales.at, rows: float8Rows, c1: int32(c.k), pitch: int32(c.k)})
	default:
		p := float8{g: b.matrixProduct(float8Rows, float8Columns, c.k), scaleA: scales.at, scaleB: scales.at}
		p.g.a, p.g.b, p.g.d, p.g.bias = zeros(2*float8Rows*c.k).at, zeros(2*float8Columns*c.k).at, d.at, scales.at
		c.queue(b, p)
	}
	b.receive(d)
}
