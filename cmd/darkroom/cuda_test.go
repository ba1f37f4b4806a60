//go:build cuda && linux && amd64

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"darkroom/kernels/cuda"
)

// TestCUDASubject is the program, in a process of its own: a fault of an emulated device lasts as long as the process.
func TestCUDASubject(t *testing.T) {
	var args []string
	if json.Unmarshal([]byte(os.Getenv("DARKROOM_ARGS")), &args) != nil {
		t.Skip("run by the tests of CUDA")
	}
	os.Exit(run(context.Background(), &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}, args))
}

// device is a machine with emulated GPUs.
type device struct {
	t     *testing.T
	env   []string
	cache string
}

// emulated is a machine with that environment (EMU_…) and without a memory of self-tests.
func emulated(t *testing.T, env ...string) device {
	t.Helper()
	if _, err := cuda.Devices(); err != nil || !strings.Contains(os.Getenv("LD_LIBRARY_PATH"), "build/emu") {
		t.Skip("SKIPPED: needs the emulated device. Run kernels/cuda/test.sh")
	}
	return device{t, env, t.TempDir()}
}

// with is the same machine with more environment.
func (d device) with(env ...string) device {
	d.env = append(append([]string{}, d.env...), env...)
	return d
}

// run runs a command line, split at the bars.
func (d device) run(line string) (code int, stdout, stderr string) {
	d.t.Helper()
	args, err := json.Marshal(strings.Split(line, "|"))
	if err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestCUDASubject$")
	cmd.Env = append(append(os.Environ(), "DARKROOM_ARGS="+string(args), "XDG_CACHE_HOME="+d.cache, "DARKROOM_HISTORY=off"), d.env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// expect runs a command line and looks for its exit code and words on stdout or stderr; "!" before words: they must not be there.
func (d device) expect(line string, code int, words ...string) (stdout string) {
	d.t.Helper()
	got, out, errs := d.run(line)
	if got != code {
		d.t.Errorf("%v %s: exit code %d, want %d", d.env, line, got, code)
	}
	for _, w := range words {
		word, not := strings.CutPrefix(w, "!")
		if strings.Contains(out+errs, word) == not {
			d.t.Errorf("%v %s: %q: found %v, in\n%s%s", d.env, line, word, not, out, errs)
		}
	}
	return out
}

// A kernel that computes wrongly is found, replaced by its slower sibling, and spoken of; one without a sibling makes the
// device useless.
func TestCUDASelfTest(t *testing.T) {
	d := emulated(t)
	d.expect("devices", 0, "cuda:0", "not tested yet")
	d.expect("selftest|--backend|cuda|--dtype|fp16", 0, "attention", "good", "!WRONG")
	d.expect("devices", 0, "tested in fp16")

	bad := d.with("EMU_WRONG=gemm_mma_f16")
	// The verdict of the same device when it was well stands until the next self-test.
	bad.expect("selftest|--backend|cuda|--dtype|fp16", 0, "WRONG: slower kernels are used", "conv2d", "groupnorm")
	bad.expect("devices", 0, "slower kernels for conv2d, linear in fp16, because the fast ones compute wrongly")
	bad.expect("devices|--json", 0, `"replaced":["conv2d","linear"]`)
	picture := t.TempDir() + "/a.png"
	bad.expect("generate|a red apple|--model|"+tiny+"|--backend|cuda|--steps|2|--seed|1|-o|"+picture, 0, "warning", "computes wrong results", "Slower ones are used instead")
	d.expect("selftest|--backend|cuda|--dtype|fp16|--json", 0, `"op":"conv2d"`, `!"replaced"`)

	useless := emulated(t, "EMU_WRONG=layernorm_f16")
	useless.expect("selftest|--backend|cuda|--dtype|fp16", 1, "layernorm", "WRONG", "wrong results, with the slower kernels too")
	useless.expect("devices", 0, "computes wrongly in fp16 and is not used")
	useless.expect("generate|a red apple|--model|"+tiny+"|--backend|cuda|--dtype|fp16|--steps|2|-o|"+picture, 1, "computes wrong results, and is not used")

	lost := emulated(t, "EMU_FAULT=20:719")
	lost.expect("selftest|--backend|cuda|--dtype|fp16", 1, "the device was lost")
	lost.expect("devices", 0, "not tested yet") // it says nothing of the kernels
	d.expect("selftest|--backend|cuda|--device|3", 1, "there is no CUDA device 3")
	d.with("EMU_DRIVER=11080").expect("selftest|--backend|cuda", 1, "there is no GPU that can be used")
}
