//go:build cuda && linux && (amd64 || arm64)

package cuda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// parameters are the structs that launches pass by value, by the name and the source of their twins in C++.
var parameters = []struct {
	of           any
	name, source string
}{
	{gemm{}, "Gemm", "gemm.cuh"},
	{hopperGemm{}, "HopperGemm", "gemm_sm90.cuh"},
	{enlarge{}, "Enlarge", "gemm_sm90.cuh"},
	{attention{}, "Attention", "attention.cuh"},
	{hopperAttention{}, "HopperAttention", "attention_sm90.cuh"},
	{groupNorm{}, "GroupNorm", "norm.cu"},
	{layerNorm{}, "LayerNorm", "norm.cu"},
	{rotary{}, "Rotary", "norm.cu"},
	{moments{}, "Moments", "norm.cu"},
	{embedding{}, "Embed", "embed.cu"},
	{unpack{}, "Unpack", "unpack.cu"},
	{pointwise{}, "Pointwise", "pointwise.cu"},
	{place{}, "Place", "pointwise.cu"},
	{cut{}, "Cut", "pointwise.cu"},
	{shuffle{}, "Shuffle", "pointwise.cu"},
	{swap{}, "Swap", "pointwise.cu"},
	{surround{}, "Surround", "pointwise.cu"},
	{float8{}, "Float8", "../lab/fp8/fp8.cuh"},
	{hopperFloat8{}, "HopperFloat8", "../lab/fp8/fp8_sm90.cuh"},
	{roundRows{}, "Rows", "../lab/fp8/fp8.cuh"},
}

// snake is a Go field's name as C++ spells it: perChannel is per_channel.
func snake(name string) string {
	return strings.TrimPrefix(strings.ToLower(regexp.MustCompile(`[A-Z]+`).ReplaceAllString(name, "_$0")), "_")
}

// assertions are static_asserts that a C++ struct has exactly the fields of a Go struct, where Go has them.
func assertions(t reflect.Type, name, prefix string, base uintptr) (lines []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name == "_" {
			continue
		}
		field := prefix + snake(f.Name)
		lines = append(lines, fmt.Sprintf(`static_assert(offsetof(%s, %s) == %d && sizeof(std::declval<%[1]s>().%[2]s) == %[4]d, "%[1]s.%[2]s is elsewhere");`,
			name, field, base+f.Offset, f.Type.Size()))
		if f.Type.Kind() == reflect.Struct {
			lines = append(lines, assertions(f.Type, name, field+".", base+f.Offset)...)
		}
	}
	return lines
}

// compiles asks g++ whether the assertions hold of a source file.
func compiles(t *testing.T, source string, lines []string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layout.cc")
	write(t, path, "#include <cstddef>\n#include <utility>\n#include \""+source+"\"\n"+strings.Join(lines, "\n")+"\n")
	out, err := exec.Command("g++", "-std=c++17", "-march=x86-64-v3", "-fsyntax-only", "-DCUDA_EMU", "-Wno-invalid-offsetof", "-Iemu", "-I.", path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// Every field of a kernel's parameter lies where Go puts it.
func TestLayout(t *testing.T) {
	if _, err := exec.LookPath("g++"); err != nil {
		t.Skip("SKIPPED: the layout in C++ is read with g++, which is not installed")
	}
	for _, p := range parameters {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			of := reflect.TypeOf(p.of)
			lines := assertions(of, p.name, "", 0)
			lines = append(lines, fmt.Sprintf(`static_assert(sizeof(%s) == %d, "the size of %[1]s");`, p.name, of.Size()))
			if err := compiles(t, p.source, lines); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("two fields exchanged", func(t *testing.T) {
		t.Parallel()
		type exchanged struct {
			A, Gamma, Beta, D uintptr
			Channels, Rows    int32
			Eps               float32
		}
		err := compiles(t, "norm.cu", assertions(reflect.TypeOf(exchanged{}), "LayerNorm", "", 0))
		if err == nil || !strings.Contains(err.Error(), "LayerNorm.rows is elsewhere") {
			t.Errorf("nobody noticed, or not by name: %v", err)
		}
	})
}

// nvcc gives every kernel's parameter the size that Go's has.
func TestLayoutCompiled(t *testing.T) {
	files, _ := filepath.Glob("../../build/cuda/ptx/*.ptx")
	if len(files) == 0 {
		t.Skip("SKIPPED: no compiled kernels. Run kernels/cuda/build.sh")
	}
	sizes := map[string]uintptr{}
	for _, p := range parameters {
		sizes[strings.ToLower(p.name)] = reflect.TypeOf(p.of).Size()
	}
	entry := regexp.MustCompile(`\.entry (([a-z]+)_\w+)\(\s*\.param \.align \d+ \.b8 \w+\[(\d+)\]\s*\)`)
	for _, path := range files {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := entry.FindAllStringSubmatch(string(body), -1)
		if n := strings.Count(string(body), ".entry "); n == 0 || n != len(found) {
			t.Errorf("%s: %d of %d kernels have one struct as their parameter", path, len(found), n)
		}
		for _, m := range found {
			if strings.Contains(m[1], "_wgmma_") {
				m[2] = "hopper" + m[2]
			}
			if size, _ := strconv.Atoi(m[3]); uintptr(size) != sizes[m[2]] {
				t.Errorf("%s: the parameter of %s has %d bytes, Go's %d", path, m[1], size, sizes[m[2]])
			}
		}
	}
}
