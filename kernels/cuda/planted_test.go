//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"darkroom/kernels/conformance"
	"darkroom/kernels/conformance/suite"
	"darkroom/tensor"
)

// onEmulator skips a test that only the emulated device can do, or that one seed is enough for.
func onEmulator(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("../../build/emu/libcuda.so.1"); err != nil || !strings.Contains(os.Getenv("LD_LIBRARY_PATH"), "build/emu") {
		t.Skip("SKIPPED: needs the emulated device. Run kernels/cuda/test.sh")
	}
	if s := os.Getenv("EMU_SEED"); s != "" && s != "1" {
		t.Skip("done with seed 1")
	}
}

// child runs short tests of this binary in a process of its own, with more environment.
func child(pattern string, env ...string) (output string, err error) {
	cmd := exec.Command(os.Args[0], "-test.short", "-test.run", pattern)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// kernelCounts is a line of the emulated device's report.
type kernelCounts struct {
	Kernel            string
	MMA               int `json:"mma"`
	LdMatrix          int `json:"ldmatrix"`
	LdMatrixConflicts int `json:"ldmatrix_conflicts"`
	CpAsync           int `json:"cp_async"`
	CpAsyncConflicts  int `json:"cp_async_conflicts"`
}

func readCounts(t *testing.T, path string) (all []kernelCounts) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var c kernelCounts
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// conflicts runs tests and lists the bank conflicts that the emulated device counted: ldmatrix and cp.async are what
// the main loops do to shared memory, and each conflict costs them a cycle.
func conflicts(t *testing.T, pattern string, env ...string) (found []string, loads int) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report")
	if out, err := child(pattern, append(env, "EMU_REPORT="+report)...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range readCounts(t, report) {
		loads += c.LdMatrix
		if c.LdMatrixConflicts != 0 || c.CpAsyncConflicts != 0 {
			found = append(found, fmt.Sprintf("%s: %d conflicts in %d ldmatrix, %d in %d cp.async",
				c.Kernel, c.LdMatrixConflicts, c.LdMatrix, c.CpAsyncConflicts, c.CpAsync))
		}
	}
	return found, loads
}

func TestBankConflicts(t *testing.T) {
	onEmulator(t)
	found, loads := conflicts(t, "^TestConformance$/^F16$/(conv2d|linear|attention)")
	for _, f := range found {
		t.Error(f)
	}
	if loads == 0 {
		t.Error("no ldmatrix was counted")
	}
}

// A test that cannot fail proves nothing: each of these mistakes, planted into a copy of the kernels, must be found.
func TestPlantedBugs(t *testing.T) {
	onEmulator(t)
	if testing.Short() {
		t.Skip("compiles the kernels a dozen times")
	}
	const gemm, attention, norm = "gemm.cuh", "attention.cuh", "norm.cu"
	for _, bug := range []struct {
		name      string
		file      string
		was, is   string
		tests     string
		checker   bool
		complains string // regular expression in the output of the failed test
	}{
		{"gemm: no barrier before a tile is used", gemm, "__syncthreads();              // … and for all; and all have done with the stage", "// … and for all; and all have done with the stage",
			"conv2d", false, `is NaN|the error is`},
		{"gemm: no barrier, seen by the checker", gemm, "__syncthreads();              // … and for all; and all have done with the stage", "// … and for all; and all have done with the stage",
			"conv2d", true, `gemm_mma_f16_64x64\w* block \(\d+,\d+,\d+\) thread \(\d+,\d+,\d+\): race: `},
		{"gemm: no wait for the copies", gemm, "cp_async_wait<kStages - 2>(); // the next stage has come, for", "// for", "conv2d", false, `is NaN`},
		{"gemm: waits for one group too few", gemm, "cp_async_wait<kStages - 2>(); // the next stage has come, for", "cp_async_wait<kStages - 1>(); // for", "conv2d", false, `is NaN`},
		{"gemm: stores a row too many", gemm, "if (m >= g.m || n0 >= g.n) return;", "if (m > g.m || n0 >= g.n) return;",
			"conv2d", false, `wrote outside the result`},
		{"gemm: reads a weight row too many", gemm, "n + i * kRows < g.n ?", "n + i * kRows <= g.n ?",
			"conv2d", false, `gemm_mma_f16_64x64\w* block .* illegal address: \d+ bytes after the start of an allocation of \d+`},
		{"gemm: the same to the byte", gemm, "n + i * kRows < g.n ?", "n + i * kRows <= g.n ?",
			"conv2d", true, `gemm_mma_f16_64x64\w* block .* global read out of bounds: offset \d+, 16 bytes of an allocation of \d+`},
		{"gemm: results exchanged without __syncwarp", gemm, "    __syncwarp();\n#pragma", "#pragma", "conv2d", true, `race: `},
		{"gemm: the last part but one adds up", gemm, "parts, 0) != g.splits) return;", "parts, 0) != g.splits - 1) return;", "(conv2d|linear)", false, `is NaN|the error is|differs`},
		{"gemm: a ticket is not given back", gemm, "  if (lane == 0) *ticket = 0;\n", "", "(conv2d|linear)", false, `is NaN|the error is|differs`},
		{"gemm: a part is left out", gemm, "for (int s = 0; there && s < g.splits; s++) {\n        float part[4];", "for (int s = 1; there && s < g.splits; s++) {\n        float part[4];", "(conv2d|linear)", false, `the error is`},
		{"gemm: normalised by another row's moments", gemm, "min(m0 + int(threadIdx.x), g.m - 1)", "min(m0 + int(threadIdx.x) + 1, g.m - 1)", "linear/.*normed", false, `the error is|differs`},
		{"gemm: norms overlap the last stage", gemm, "    reinterpret_cast<float2*>(stages + kStages * kBytes)[threadIdx.x] =", "    reinterpret_cast<float2*>(stages + kStages * kBytes - 64)[threadIdx.x] =", "linear/.*normed", false, `is NaN|the error is|differs`},
		{"groupnorm: the last block but one joins", norm, "+ 1 == gridDim.x * gridDim.y ?", "+ 2 == gridDim.x * gridDim.y ?", "groupnorm", false, `is NaN|the error is|differs`},
		{"groupnorm: a ticket is not given back", norm, "  if (threadIdx.x == 0) g.ticket[image] = 0;\n", "", "groupnorm", false, `is NaN|the error is|differs`},
		{"groupnorm: a pixel too many", norm, "  for (int p = s.row; p < g.pixels; p += s.rows) {", "  for (int p = s.row; p <= g.pixels; p += s.rows) {", "groupnorm", false, `wrote outside the result|illegal address|the error is`},
		{"attention: no barrier after a tile", attention, "    __syncthreads(); // before the next tile but one overwrites these", "",
			"attention", true, `race: `},
		{"attention: a key too many", attention, "a.causal ? min(there, row + 1)", "a.causal ? min(there, row + 2)", "attention", false, `the error is`},
		{"attention: weights too large for their type", attention, "if (raised || !__any_sync(~0u, !fine))", "if (true)", "attention", false, `is NaN|the error is`},
		{"attention: a lane decides for itself", attention, "        over |= __shfl_xor_sync(~0u, over, 1);\n", "", "attention", false, `is NaN|the error is|differs`},
		{"attention: the sum is not scaled", attention, "    sum[h] *= factor;\n", "", "attention", false, `the error is`},
		{"attention: a divergent warp", attention, "if (raised || !__any_sync(~0u, !fine))", "if (raised || (lane < 31 && !__any_sync(~0u, !fine)))", "attention", false,
			`attention_mma_f16_\d+ block .* (warp|deadlock)`},
	} {
		t.Run(bug.name, func(t *testing.T) {
			t.Parallel()
			library := plant(t, bug.file, bug.was, bug.is, bug.checker)
			out, err := child("^TestConformance$/^F16$/"+bug.tests, "LD_LIBRARY_PATH="+library)
			if err == nil {
				t.Fatalf("nobody noticed:\n%s", out)
			}
			if !regexp.MustCompile(bug.complains).MatchString(out) {
				t.Errorf("found, but not by its name /%s/:\n%.2000s", bug.complains, out)
			}
		})
	}
}

// The self-test finds wrong attention kernels on a user's machine, puts the simple ones in their place, says so, and remembers.
func TestSelfTestReplaces(t *testing.T) {
	onEmulator(t)
	if testing.Short() {
		t.Skip("compiles the kernels")
	}
	library := plant(t, "attention.cuh", "a.causal ? min(there, row + 1)", "a.causal ? min(there, row + 2)", false)
	out, err := child("^TestSelfTestSubject$", "LD_LIBRARY_PATH="+library, "SELFTEST_CACHE="+t.TempDir())
	if err != nil || strings.Count(out, "warning: cuda:0") != 2 || !strings.Contains(out, "simple kernels: false true tested: false") {
		t.Errorf("%v\n%.2000s", err, out)
	}
}

// A layout with bank conflicts gives right results, slowly: only the count can tell.
func TestPlantedBankConflicts(t *testing.T) {
	onEmulator(t)
	if testing.Short() {
		t.Skip("compiles the kernels")
	}
	library := plant(t, "gemm.cuh", "(chunk ^ (row >> 1 & 3))", "chunk", false)
	found, _ := conflicts(t, "^TestConformance$/^F16$/conv2d/1×6×6", "LD_LIBRARY_PATH="+library)
	if len(found) == 0 {
		t.Error("nobody noticed")
	}
}

// The loop of the tiles of eight warps is another one.
func TestPlantedCrowded(t *testing.T) {
	onEmulator(t)
	if testing.Short() {
		t.Skip("compiles the kernels")
	}
	usual := leftOut
	leftOut = regexp.MustCompile(`bfloat_t|f32|MMA\(name##_(128x|64x64,)`)
	defer func() { leftOut = usual }()
	for _, bug := range []struct {
		name, was, is string
		checker       bool
		complains     string
	}{
		{"no barrier", "__syncthreads();              // … and for all; and all have done with this one", "", true,
			`gemm_mma_f16_128x64_8w block \(\d+,\d+,\d+\) thread \(\d+,\d+,\d+\): race: `},
		{"no wait for the copies", "cp_async_wait<kStages - 2>(); // the next stage has come, here", "", false, `is NaN`},
		{"a wrong half", "flipped(chunk, 32)", "flipped(chunk, 16)", false, `the error is`},
	} {
		t.Run(bug.name, func(t *testing.T) {
			library := plant(t, "gemm.cuh", bug.was, bug.is, bug.checker)
			out, err := child("^TestFamilySubject$", "LD_LIBRARY_PATH="+library, "FAMILY=128x64_8w")
			if err == nil {
				t.Fatalf("nobody noticed:\n%s", out)
			}
			if !regexp.MustCompile(bug.complains).MatchString(out) {
				t.Errorf("found, but not by its name /%s/:\n%.2000s", bug.complains, out)
			}
		})
	}
}

// TestFamilySubject runs the products of the suite on the family that FAMILY names.
func TestFamilySubject(t *testing.T) {
	name := os.Getenv("FAMILY")
	if name == "" {
		t.Skip("run by TestPlantedCrowded")
	}
	b := open(t, Options{DType: tensor.F16})
	b.only = named(b.choices(), name)
	suite.Run(t, b, conformance.Options{Short: true, Match: product})
}

// leftOut are lines of a .cu file that a planted bug needs not.
var leftOut = regexp.MustCompile(`bfloat_t|f32|MMA(_OF)?\(name##_128x|T, (64|80|128|160), [56]\)|T, (40|64|128|160), (64|128)\)`)

// plant builds an emulated device from a copy of the kernels with one piece of text replaced, and returns the
// folder that it is in.
func plant(t *testing.T, file, was, is string, checker bool) string {
	t.Helper()
	// The folder's name satisfies onEmulator.
	library := filepath.Join(t.TempDir(), "build/emu")
	source := t.TempDir()
	for _, d := range []string{library, source} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyAll(t, "*.cu*", source)
	body, err := os.ReadFile(filepath.Join(source, file))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(body), was); n != 1 {
		t.Fatalf("%s holds %q %d times", file, was, n)
	}
	write(t, filepath.Join(source, file), strings.Replace(string(body), was, is, 1))
	// Of the kernels only the file's own, in float16 and on one tile: the rest takes long to compile.
	kernels := strings.TrimSuffix(file, "h")
	if file == "ptx_sm90.cuh" {
		kernels = "gemm_sm90.cu"
	}
	if body, err = os.ReadFile(filepath.Join(source, kernels)); err != nil {
		t.Fatal(err)
	}
	var keep []string
	for _, line := range strings.Split(string(body), "\n") {
		if !leftOut.MatchString(line) {
			keep = append(keep, line)
		} else if last := len(keep) - 1; last >= 0 && !strings.HasSuffix(line, "\\") { // a macro's last line
			keep[last] = strings.TrimSuffix(keep[last], "\\")
		}
	}
	write(t, filepath.Join(source, kernels), strings.Join(keep, "\n"))
	others, _ := filepath.Glob(filepath.Join(source, "*.cu"))
	for _, other := range others {
		if filepath.Base(other) != kernels {
			_ = os.Remove(other)
		}
	}
	args, objects := []string{library, source}, "../../build/emu/*.o"
	if checker {
		args, objects = append([]string{"--check"}, args...), "../../build/emu-check/*.o"
	}
	copyAll(t, objects, library)
	// Its own object would pass for up to date. Without any (the checker was not built) build.sh makes what it needs.
	if err := os.Remove(filepath.Join(library, kernels+".o")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	cmd := exec.Command("emu/build.sh", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return library
}

func copyAll(t *testing.T, pattern, to string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		body, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, filepath.Base(p)), string(body))
	}
}

func write(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}
