//go:build cuda && linux && (amd64 || arm64)

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/kernels/cuda"
	"darkroom/tensor"
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

// TestCUDA holds tests that share a memory of self-tests, which take seconds on the emulated device.
func TestCUDA(t *testing.T) {
	d := emulated(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, device)
	}{{"self-test", testCUDASelfTest}, {"devices", testCUDADevices}, {"batch", testCUDABatch}, {"control", testCUDAControl}, {"single file", testCUDASingleFile}, {"faults", testCUDAFaults}, {"overflow", testCUDAOverflow}, {"int8", testCUDAInt8}} {
		t.Run(c.name, func(t *testing.T) { d := d; d.t = t; c.test(t, d) })
	}
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
func testCUDASelfTest(t *testing.T, d device) {
	d.expect("devices", 0, "cuda:0", "not tested yet")
	d.expect("selftest|--backend|cuda|--dtype|fp16|--json", 0, `"op":"attention"`, `!"replaced"`, `!"failed":[`)
	d.expect("devices", 0, "tested in fp16")

	bad := emulated(t, "EMU_WRONG=gemm_mma_f16")
	bad.expect("selftest|--backend|cuda|--dtype|fp16", 0, "WRONG: slower kernels are used", "conv2d", "groupnorm")
	bad.expect("devices", 0, "slower kernels for conv2d, linear in fp16, because the fast ones compute wrong results")
	bad.expect("devices|--json", 0, `"replaced":["conv2d","linear"]`)
	bad.expect(onCUDA+"|-o|"+t.TempDir()+"/a.png", 0, "warning", "computes wrong results", "Slower ones are used instead")

	useless := emulated(t, "EMU_WRONG=layernorm_f16")
	useless.expect("selftest|--backend|cuda|--dtype|fp16", 1, "layernorm", "WRONG", "wrong results, with the slower kernels too")
	useless.expect("devices", 0, "computes wrong results in fp16 and is not used")

	lost := emulated(t, "EMU_FAULT=20:719")
	lost.expect("selftest|--backend|cuda|--dtype|fp16", 1, "the device was lost")
	lost.expect("devices", 0, "not tested yet") // it says nothing of the kernels
	d.expect("selftest|--backend|cuda|--device|3", 1, "there is no CUDA device 3")
	d.with("EMU_DRIVER=11080").expect("selftest|--backend|cuda", 1, "no GPU can be used")
}

// pictures are the files of a folder by name, byte for byte.
func (d device) pictures(dir string) map[string]string {
	d.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			d.t.Fatal(err)
		}
		all[e.Name()] = string(data)
	}
	return all
}

// onCUDA begins a command line that makes small pictures in float16.
const onCUDA = "generate|cat|--model|../../pipeline/testdata/models/sd1|--seed|5|--steps|2|--backend|cuda|--dtype|fp16|--width|32|--height|32"

// A batch on a GPU, where pictures are denoised together and decoded beside the next ones, gives the files that generate
// gives, on one device and on two.
func testCUDABatch(t *testing.T, d device) {
	dir := t.TempDir()
	d.expect(onCUDA+"|--count|3|-o|"+dir+"/generate/", 0)
	jobs := filepath.Join(dir, "jobs.yaml")
	text := "- {prompt: cat, model: ../../pipeline/testdata/models/sd1, seed: 5..7, steps: 2, backend: cuda, dtype: fp16, width: 32, height: 32, name: 'cat-{seed}'}"
	if err := os.WriteFile(jobs, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	want := d.pictures(dir + "/generate")
	for name, flags := range map[string]string{"auto": "", "one": "|--batch-size|1", "two": "|--batch-size|2", "devices": "|--device|0,1"} {
		d.with("EMU_DEVICES=2").expect("batch|"+jobs+"|-o|"+dir+"/"+name+"|--backend|cuda|--dtype|fp16"+flags, 0)
		got := d.pictures(dir + "/" + name)
		delete(got, "manifest.jsonl")
		if !maps.Equal(got, want) {
			t.Errorf("%s: %d files, and not those %d of generate", name, len(got), len(want))
		}
	}
}

// The same bytes come of one device and of several, of resident weights and of streamed ones.
func testCUDADevices(t *testing.T, d device) {
	dir := t.TempDir()
	d.expect(onCUDA+"|--count|3|-o|"+dir+"/one/", 0)
	want := d.pictures(dir + "/one")
	for name, flags := range map[string]string{"two": "|--device|1,0", "all": "|--device|all", "low": "|--device|2|--low-memory"} {
		d.with("EMU_DEVICES=3").expect(onCUDA+"|--count|3|-o|"+dir+"/"+name+"/"+flags, 0)
		if got := d.pictures(dir + "/" + name); !maps.Equal(got, want) {
			t.Errorf("%s: %d files, of which some differ", name, len(got))
		}
	}
	// Two make each picture together; of four, two pairs share the pictures out.
	for name, devices := range map[string]string{"pair": "1,0", "pairs": "0,1,2,3", "low pair": "0,1|--low-memory"} {
		d.with("EMU_DEVICES=4").expect(onCUDA+"|--count|3|--parallel|cfg|--device|"+devices+"|-o|"+dir+"/"+name+"/", 0)
		if got := d.pictures(dir + "/" + name); !maps.Equal(got, want) {
			t.Errorf("--parallel cfg --device %s: %d files, of which some differ", devices, len(got))
		}
	}
	two := d.with("EMU_DEVICES=2")
	two.with("EMU_FAULT=20:700@1").expect(onCUDA+"|--parallel|cfg|--device|0,1|-o|"+dir+"/lost.png", 1, "cuda:1 failed", "step 1 of 2") // the second computes
	two.with("EMU_MEMORY=4096,0").expect(onCUDA+"|--parallel|cfg|--device|0,1", 1, "not enough memory on cuda:1")
	two.expect(onCUDA+"|--parallel|cfg|--device|0", 2, "--parallel cfg needs two GPUs")
	d.with("EMU_DEVICES=3").expect(onCUDA+"|--parallel|cfg|--device|0,1,2", 2, "GPUs are used in pairs, and 3 are listed")
	d.expect(onCUDA+"|--device|1", 1, "there is no CUDA device 1: this machine has 1, numbered from 0")
	d.expect(onCUDA+"|--device|0,1", 1, "there is no CUDA device 1")
	d.expect("generate|cat|--device|1", 1, "there is no CUDA device 1") // not the CPU instead
}

// Networks that steer run on a GPU, with streamed weights too, and a picture without them is what it was.
func testCUDAControl(t *testing.T, d device) {
	const steer = "../../pipeline/testdata/steer/"
	dir := t.TempDir()
	control := "|--control|" + steer + "nets/one=" + steer + "ring-64.png:end=0.5;" + steer + "nets/t2i=" + steer + "lines-64.png;" + steer + "nets/ip-plus.bin=" + steer + "face.png"
	d.expect(onCUDA+"|-o|"+dir+"/plain/", 0)
	d.expect(onCUDA+control+"|-o|"+dir+"/one/", 0)
	d.expect(onCUDA+control+"|--low-memory|-o|"+dir+"/low/", 0)
	plain, one, low := d.pictures(dir+"/plain"), d.pictures(dir+"/one"), d.pictures(dir+"/low")
	if !maps.Equal(one, low) || maps.Equal(one, plain) {
		t.Errorf("streamed weights: %v, the same picture without controls: %v", maps.Equal(one, low), maps.Equal(one, plain))
	}
}

// A single file gives the picture of its folder on a GPU, in float16 and bfloat16.
func testCUDASingleFile(t *testing.T, d device) {
	dir := t.TempDir()
	d.expect("convert|../../pipeline/testdata/models/sd1|"+dir+"/one.safetensors", 0)
	for _, dtype := range []string{"fp16", "bf16"} {
		flags := "|--backend|cuda|--dtype|" + dtype + "|--seed|5|--steps|2|--width|32|--height|32|-o|" + dir + "/" + dtype
		d.expect("generate|cat|--model|../../pipeline/testdata/models/sd1"+flags+"-folder.png", 0)
		d.expect("generate|cat|--model|"+dir+"/one.safetensors"+flags+"-file.png", 0)
		if folder, file := inspected(t, dir+"/"+dtype+"-folder.png").Result, inspected(t, dir+"/"+dtype+"-file.png").Result; folder != file {
			t.Errorf("%s: the file gives %+v, the folder %+v", dtype, file, folder)
		}
	}
}

// What goes wrong with a device costs its picture at most; exit codes and messages are those of the design.
func testCUDAFaults(t *testing.T, d device) {
	dir := t.TempDir()
	d.expect(onCUDA+"|-o|"+dir+"/first/", 0) // the self-test is done

	// Launch 300 is in the second step of the first picture.
	lost := d.with("EMU_FAULT=300:700")
	lost.expect(onCUDA+"|-o|"+dir+"/lost.png", 1, "ddim, step 2 of 2: cuda:0 failed", "an illegal memory access was encountered", "please report it")
	lost.expect(onCUDA+"|--count|3|-o|"+dir+"/lost/", 1, "picture 1 of 3 (seed 5) failed", "3 of 3 pictures failed: picture 1: ", "no device is left")
	// The other device makes the lost one's picture.
	d.with("EMU_DEVICES=2", "EMU_FAULT=300:214@1").expect(onCUDA+"|--count|3|--device|0,1|-o|"+dir+"/two/", 0, "uncorrectable ECC error", "replace the card")
	if got := d.pictures(dir + "/two"); len(got) != 3 || got["cat-5.png"] != d.pictures(dir + "/first")["cat-5.png"] {
		t.Errorf("%d pictures after one of two devices was lost", len(got))
	}
	// A device without room leaves its pictures to the other; if none has room, that is the error.
	d.with("EMU_DEVICES=2", "EMU_MEMORY=0,4096").expect(onCUDA+"|--count|2|--device|0,1|-o|"+dir+"/room/", 0, "not enough memory on cuda:0")
	d.with("EMU_DEVICES=2", "EMU_MEMORY=0,0").expect(onCUDA+"|--count|2|--device|0,1|-o|"+dir+"/room2/", 1, "not enough memory on cuda:0", "not enough memory on cuda:1", "2 of 2 pictures failed")
	// And in a batch, whose bytes are those of generate.
	jobs := dir + "/jobs.yaml"
	if err := os.WriteFile(jobs, []byte("{prompt: cat, seed: 5..8, steps: 2, width: 32, height: 32, name: 'cat-{seed}'}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	batch := strings.Replace(onCUDA, "generate|cat|", "batch|"+jobs+"|", 1)
	batch = strings.Replace(strings.Replace(batch, "|--seed|5|--steps|2", "", 1), "|--width|32|--height|32", "", 1)
	lost.expect(batch+"|--batch-size|1|-o|"+dir+"/none", 1, "cuda:0 is lost", "no device is left")
	d.with("EMU_DEVICES=2", "EMU_FAULT=300:700@1").expect(batch+"|--batch-size|2|--device|all|-o|"+dir+"/batch", 0, "cuda:1 is lost; its pictures go to the other devices")
	if got := d.pictures(dir + "/batch"); got["cat-5.png"] != d.pictures(dir + "/first")["cat-5.png"] || len(got) < 4 {
		t.Errorf("%d files of a batch after one of two devices was lost", len(got))
	}
	d.with("EMU_DRIVER=11080").expect(onCUDA, 1, "the driver supports CUDA 11.8, and darkroom needs CUDA 12.0: install driver R525 or newer")
	d.with("EMU_CC=120", "EMU_DRIVER=12040").expect(onCUDA, 1, "this GPU needs CUDA 12.8: install driver R570 or newer")
	d.with("LD_LIBRARY_PATH=/nowhere").expect(onCUDA, 1, "CUDA is not available", "no NVIDIA driver is installed")
	d.with("EMU_DEVICES=0").expect(onCUDA, 1, "no CUDA-capable device")

	// auto: the CPU where the GPU has no memory, or cannot be used, and says so; silently where there is none.
	auto := strings.NewReplacer("|--backend|cuda", "", "|--dtype|fp16", "").Replace(onCUDA) + "|--json|-o|" + dir
	d.expect(auto+"/a.png", 0, `"backend":"cuda"`, `"dtype":"fp16"`, "!computes wrong", "!CUDA is not")
	d.with("EMU_MEMORY=0").expect(auto+"/b.png", 0, `"backend":"cpu"`, "warning: ", "cuda:0", "not enough memory")
	d.with("EMU_DRIVER=11080").expect(auto+"/c.png", 0, `"backend":"cpu"`, "warning: using the CPU although there is a GPU", "install driver R525")
	d.with("LD_LIBRARY_PATH=/nowhere").expect(auto+"/d.png", 0, `"backend":"cpu"`, "!CUDA is not")
	// Asked for by name, too little memory is an error with numbers.
	d.with("EMU_MEMORY=64").expect(strings.Replace(onCUDA, "|--width|32|--height|32", "|--width|2048|--height|2048", 1), 1, "not enough memory", "GiB of weights", "0.06 GiB free", "--low-memory needs")
}

// Weights in 8 bits: the recipe says so, streamed weights and several pictures at once give the same bytes, other weights others;
// a device that unpacks them wrongly is refused.
func testCUDAInt8(t *testing.T, d device) {
	dir := t.TempDir()
	int8 := strings.Replace(onCUDA, "fp16", "int8", 1)
	d.expect(onCUDA+"|--count|2|-o|"+dir+"/half/", 0)
	d.expect(int8+"|--count|2|--json|-o|"+dir+"/one/", 0, `"dtype":"int8"`, `"backend":"cuda"`)
	d.expect(int8+"|--count|2|--low-memory|-o|"+dir+"/low/", 0)
	d.expect("verify|"+dir+"/one/cat-5.png|--model|../../pipeline/testdata/models/sd1|--backend|cuda", 0, "agree")
	half, one, low := d.pictures(dir+"/half"), d.pictures(dir+"/one"), d.pictures(dir+"/low")
	if len(one) != 2 || !maps.Equal(one, low) || one["cat-5.png"] == half["cat-5.png"] {
		t.Errorf("%d pictures; streamed weights give the same: %v; half precision too: %v", len(one), maps.Equal(one, low), one["cat-5.png"] == half["cat-5.png"])
	}
	emulated(t, "EMU_WRONG=unpack_f16").expect(int8, 1, "computes wrong results", "weights in 8 bits")
}

// An autoencoder whose numbers are too large for float16 decodes once more in a wider type; the recipe says it.
func testCUDAOverflow(t *testing.T, d device) {
	loud := t.TempDir() + "/loud"
	if err := os.CopyFS(loud, os.DirFS("../../pipeline/testdata/models/sd1")); err != nil {
		t.Fatal(err)
	}
	amplify(t, loud+"/vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight", 1<<14)
	dir := t.TempDir()
	line := strings.Replace(onCUDA, "../../pipeline/testdata/models/sd1", loud, 1) + "|--json|-o|" + dir
	d.expect(line+"/a.png", 0, "warning: picture 1 of 1 (seed 5): the decoder's numbers overflow fp16: decoding this picture again in fp32", `"decode_dtype":"fp32"`, `"dtype":"fp16"`)
	d.expect(line+"/|--count|2", 0, "picture 2 of 2 (seed 6): the decoder's numbers overflow fp16")
	d.expect("verify|"+dir+"/a.png|--model|"+loud+"|--backend|cuda", 0, "agree")

	amplify(t, loud+"/unet/diffusion_pytorch_model.safetensors", "conv_in.weight", 1<<14)
	d.expect(line+"/c.png", 1, "the U-Net at timestep", "no picture", "infinity", "try --dtype fp32")
}

// amplify multiplies a weight in a safetensors file.
func amplify(t *testing.T, file, name string, by float32) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head := binary.LittleEndian.Uint64(data)
	var header map[string]struct {
		DType   string `json:"dtype"`
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(data[8:8+head], &header); err != nil {
		t.Fatal(err)
	}
	w, ok := header[name]
	if !ok {
		t.Fatalf("%s has no %s", file, name)
	}
	dtype := map[string]tensor.DType{"F16": tensor.F16, "F32": tensor.F32}[w.DType]
	body := data[8+int(head)+w.Offsets[0] : 8+int(head)+w.Offsets[1]]
	values := make([]float32, len(body)/dtype.Size())
	tensor.Tensor{DType: dtype, Shape: tensor.Shape{len(values)}, Data: body}.Float32(values)
	for i := range values {
		values[i] *= by
	}
	tensor.Encode(body, dtype, values)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
