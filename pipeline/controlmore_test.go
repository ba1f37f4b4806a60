package pipeline

import (
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/kernels/cpu"
	"darkroom/kernels/ref"
	"darkroom/recipe"
)

// steered is a small request with controls.
func steered(p *Pipeline, control string) Request {
	r := p.NewRequest("a red apple")
	r.Syntax, r.Steps, r.Scheduler, r.Width, r.Height, r.Control = "plain", 4, "ddim", 64, 64, located(control)
	return r
}

// A network in one file, with the names of the original program, is the one in diffusers' folder.
func TestControlFiles(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	for file, folder := range map[string]string{"one-ldm.safetensors": "one", "t2i-original.pth": "t2i"} {
		a, b := render(t, p, steered(p, file+"=ring-64.png:scale=0.7")), render(t, p, steered(p, folder+"=ring-64.png:scale=0.7"))
		if a.Recipe.Result != b.Recipe.Result {
			t.Errorf("%s: %+v, and the folder %+v", file, a.Recipe.Result, b.Recipe.Result)
		}
		if a.Recipe.Files[0].Kind != "control" || len(a.Recipe.Files[0].SHA256) != 64 {
			t.Errorf("files %+v", a.Recipe.Files)
		}
	}
}

// A file that says how a network differs from the model's U-Net, by low ranks or as it is, is that network; and with another
// model's adapters over the U-Net it stays so.
func TestRelativeControlFiles(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	whole, plain := render(t, p, steered(p, "relative=ring-64.png")), render(t, p, steered(p, ""))
	for _, file := range []string{"relative-lora.safetensors", "relative-difference.safetensors"} {
		img := render(t, p, steered(p, file+"=ring-64.png"))
		if dB := psnr(img.Pixels, whole.Pixels); dB < 60 {
			t.Errorf("%s: %.1f dB from the whole network", file, dB)
		}
	}
	if dB := psnr(plain.Pixels, whole.Pixels); dB > 35 {
		t.Errorf("%.1f dB without the network: this shows nothing", dB)
	}
	xl := open(t, Options{Model: "testdata/sdxl/models/xl"})
	if _, err := xl.Render(t.Context(), steered(xl, "relative-lora.safetensors=ring-64.png"), Events{}); err == nil || !strings.Contains(err.Error(), "another family") {
		t.Errorf("on another model: %v", err)
	}
}

// Names are found in the folders of models, those of other programs too.
func TestControlNames(t *testing.T) {
	root := t.TempDir()
	for from, to := range map[string]string{"one-ldm.safetensors": "ControlNet/control_ring.safetensors", "ip.safetensors": "ipadapter/face.safetensors"} {
		data, err := os.ReadFile(filepath.Join(steers, "nets", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, to), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DARKROOM_MODELS", root)
	p := open(t, Options{Model: "testdata/models/sd1"})
	r := steered(p, "")
	ring := filepath.Join(steers, "ring-64.png")
	r.Control = "control_ring=" + ring + ";face=" + ring + ":encoder=" + filepath.Join(steers, "nets/image_encoder")
	img := render(t, p, r)
	if want := "control_ring=ring-64.png;face=ring-64.png:encoder=image_encoder"; img.Recipe.Control != want {
		t.Errorf("the recipe says %q, want %q", img.Recipe.Control, want)
	}
	kinds := ""
	for _, f := range img.Recipe.Files {
		kinds += f.Kind + " "
	}
	if kinds != "control hint control encoder " {
		t.Errorf("files %+v", img.Recipe.Files)
	}
}

// In a batch each picture is as alone, whatever steers its neighbours.
func TestControlBatch(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	var requests []Request
	for i, control := range []string{
		"one=ring-64.png", "one=lines-64.png:scale=0.5,end=0.5", "", "one=ring-64.png:start=0.5", "two=ring-64.png;ip.safetensors=face.png",
		"t2i=lines-64.png:end=0.6", "one=ring-64.png:guess", "one=ring-64.png:pre=canny",
	} {
		r := steered(p, control)
		r.Seed = uint64(i)
		requests = append(requests, r)
	}
	var alone []recipe.Result
	for _, r := range requests {
		alone = append(alone, render(t, p, r).Recipe.Result)
	}
	images, errs := together(t, p, requests, nil)
	for i := range requests {
		if errs[i] != nil || images[i].Recipe.Result != alone[i] {
			t.Errorf("request %d, --control %s: %v, or another picture", i, requests[i].Control, errs[i])
		}
	}
}

// Streamed weights change no bit, and every backend's pictures are alike.
func TestControlLowMemory(t *testing.T) {
	control := "one=ring-64.png:end=0.6;t2i=lines-64.png:scale=0.5;ip-plus.bin=face.png"
	var first *Image
	for _, backend := range []string{Ref, CPU} {
		if backend == CPU && !cpu.Available {
			continue
		}
		resident := open(t, Options{Model: "testdata/models/sd1", Backend: backend, DType: "fp32"})
		streamed := open(t, Options{Model: "testdata/models/sd1", Backend: backend, DType: "fp32", LowMemory: true})
		for _, c := range []string{control, "", control} {
			a, b := render(t, resident, steered(resident, c)), render(t, streamed, steered(streamed, c))
			if a.Recipe.Result.Latents != b.Recipe.Result.Latents { // pictures are decoded in tiles
				t.Errorf("%s, --control %q: %+v and %+v", backend, c, a.Recipe.Result, b.Recipe.Result)
			}
			if first == nil {
				first = a
			} else if dB := psnr(a.Pixels, first.Pixels); c == control && dB < 60 {
				t.Errorf("%s: %.1f dB from the reference", backend, dB)
			}
		}
	}
}

// Memory is what was estimated, and what belongs to controls alone is given back with the next picture without.
func TestControlMemory(t *testing.T) {
	var most [2]int
	for i, low := range []bool{false, true} {
		p := open(t, Options{Model: "testdata/models/sd1", Backend: Ref, LowMemory: low})
		b := &counting{Backend: ref.New(0)}
		p.device.Backend = b
		plain := steered(p, "")
		render(t, p, plain)
		without := b.used
		r := steered(p, "one=ring-64.png:end=0.5;t2i=lines-64.png;ip.safetensors=face.png")
		pl, err := p.plan(r)
		if err != nil {
			t.Fatal(err)
		}
		need, before := p.needOf(pl, 2), b.used
		b.most = before
		render(t, p, r)
		if taken := b.most - before; uint64(taken) > need.Total() {
			t.Errorf("low memory %v: %d bytes were taken, %d estimated", low, taken, need.Total())
		}
		most[i] = b.most
		if plainNeed := p.need(64, 64, 2, low); need.Total() <= plainNeed.Total() {
			t.Errorf("low memory %v: %d bytes with controls, %d without", low, need.Total(), plainNeed.Total())
		}
		render(t, p, plain)
		if b.used != without {
			t.Errorf("low memory %v: %d bytes are held after the controls are gone, %d before", low, b.used, without)
		}
	}
	if most[1] >= most[0] {
		t.Errorf("%d bytes with --low-memory, %d without", most[1], most[0])
	}
}

// LoRAs are laid over a model with controls too: another one changes the steered picture, and back again.
func TestControlAndAdapters(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	adapters, err := filepath.Glob("testdata/adapted/loras/*.safetensors")
	if err != nil || len(adapters) == 0 {
		t.Fatalf("adapters %v, %v", adapters, err)
	}
	for _, a := range adapters {
		r := steered(p, "one=ring-64.png")
		before := render(t, p, r).Recipe.Result
		r.LoRA = a
		changed, err := p.Render(t.Context(), r, Events{})
		if err != nil {
			continue // it is for another model
		}
		r.LoRA = ""
		if after := render(t, p, r).Recipe.Result; changed.Recipe.Result == before || after != before {
			t.Errorf("%s: %+v, with it %+v, and after it %+v", a, before, changed.Recipe.Result, after)
		}
		return
	}
	t.Error("no adapter fits the model")
}

// A mistake is reported before any work, by the name of the file and with what to do.
func TestControlErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ringFile, err := os.ReadFile(filepath.Join(steers, "ring-64.png"))
	if err != nil {
		t.Fatal(err)
	}
	text, empty, cut := write("words.png", "words"), write("empty.png", ""), write("cut.png", string(ringFile[:len(ringFile)/2]))
	sd, xl := open(t, Options{Model: "testdata/models/sd1"}), open(t, Options{Model: "testdata/sdxl/models/xl"})
	instruct, depth := open(t, Options{Model: filepath.Join(steers, "models/instruct")}), open(t, Options{Model: filepath.Join(steers, "models/depth")})
	ring, nets := filepath.Join(steers, "ring-64.png"), filepath.Join(steers, "nets")+"/"
	flat := filepath.Join(dir, "flat.png")
	save(t, flat)
	low, little := 0.5, 0.3
	for _, c := range []struct {
		p    *Pipeline
		set  func(*Request)
		want string
	}{
		{sd, control("a.png"), "MODEL=IMAGE is needed"},
		{sd, control("nothing=" + ring), "no control of that name"},
		{sd, control(nets + "one=" + filepath.Join(dir, "none.png")), "none.png"},
		{sd, control(nets + "one=" + text), text + ": it is not a picture"},
		{sd, control(nets + "one=" + empty), empty + " is empty"},
		{sd, control(nets + "one=" + cut), cut + ": the picture is damaged"},
		{sd, control(nets + "one=" + dir), dir + " is not a file"},
		{sd, control(nets + "one=" + ring + ":pre=cany"), "nearest: canny"},
		{sd, control(nets + "one=" + ring + ":type=depth"), "type is for Unions"},
		{sd, control(nets + "t2i=" + ring + ":guess"), "guess is for ControlNets"},
		{sd, control(nets + "one=" + ring + ":encoder=" + nets + "image_encoder"), "encoder is for IP-Adapters"},
		{sd, control(nets + "ip.safetensors=" + ring + ":encoder=" + nets + "one"), "one/config.json"},
		{sd, control(nets + "xl=" + ring), "another kind of model"},
		{sd, control(nets + "ip-xl.safetensors=" + ring), "another kind of model"},
		{xl, control(nets + "one=" + ring), "another kind of model"},
		{xl, control(nets + "t2i=" + ring), "another kind of model"},
		{xl, control(nets + "ip.safetensors=" + ring), "another kind of model"},
		{xl, control(nets + "union=" + ring), "this is a Union"},
		{xl, control(nets + "union=" + ring + ":type=tile"), `type "tile": this Union has 4 types: openpose (0), depth (1)`},
		{sd, control("testdata/models/sd1=" + ring), "without config.json"},
		{sd, control("testdata/models/sd1/unet=" + ring), "this is the U-Net"},
		{sd, control(nets + "one/diffusion_pytorch_model.safetensors/x=" + ring), "no control of that name"},
		{sd, func(r *Request) { r.Control, r.Width = nets+"t2i="+ring, 72 }, "multiples of 16 pixels; the nearest size is 80×64"},
		{sd, func(r *Request) { r.Control, r.Scheduler, r.Steps = nets+"one="+ring+":end=0.5", "dpm-adaptive", 0 }, "leave start and end out"},
		{sd, func(r *Request) { r.Depth = ring }, "--depth is for depth models"},
		{sd, func(r *Request) { r.ImageCFG = &low }, "--image-cfg is for models that edit by instruction"},
		{instruct, func(*Request) {}, "edits by instruction: give it a picture with --init"},
		{instruct, func(r *Request) { r.Init, r.Strength = ring, &little }, "--image-cfg says"},
		{instruct, func(r *Request) { r.Init, r.Mask = ring, ring }, "takes no --mask"},
		{instruct, func(r *Request) { r.Init, r.Guidance, r.Negative = ring, "perp-neg", "x" }, "does not go with a model that edits by instruction"},
		{depth, func(*Request) {}, "is a depth model: give it a depth map with --depth"},
		{depth, func(r *Request) { r.Depth = text }, "--depth: " + text},
		{depth, func(r *Request) { r.Depth = flat }, "has the same depth everywhere"},
	} {
		r := c.p.NewRequest("a cat")
		r.Steps, r.Width, r.Height = 4, 64, 64
		c.set(&r)
		if _, err := c.p.Render(t.Context(), r, Events{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("--control %s --init %q --depth %q: %v, want %q", r.Control, r.Init, r.Depth, err, c.want)
		}
	}
}

func control(text string) func(*Request) { return func(r *Request) { r.Control = text } }

// Editing by instruction without enough guidance has one row, a depth model needs no picture to start from.
func TestInstructAndDepthAlone(t *testing.T) {
	p := open(t, Options{Model: filepath.Join(steers, "models/instruct")})
	r := p.NewRequest("make it red")
	less := 0.9
	r.Steps, r.Init, r.ImageCFG, r.Width, r.Height = 3, editFile("init", 64), &less, 64, 64
	render(t, p, r)
	if n := p.model.Denoiser.Part().Size().Rows; n != 1 {
		t.Errorf("%d rows", n)
	}
	r.ImageCFG = nil
	if img := render(t, p, r); img.Recipe.ImageCFG == nil || *img.Recipe.ImageCFG != 1.5 {
		t.Errorf("the recipe has image_cfg %v", img.Recipe.ImageCFG)
	}
	if n := p.model.Denoiser.Part().Size().Rows; n != 3 {
		t.Errorf("%d rows", n)
	}
	d := open(t, Options{Model: filepath.Join(steers, "models/depth")})
	q := d.NewRequest("a room")
	q.Steps, q.Width, q.Height, q.Depth = 3, 64, 64, filepath.Join(steers, "depth-128.png")
	img := render(t, d, q)
	if f := img.Recipe.Files; len(f) != 1 || f[0].Kind != "depth" || img.Recipe.Depth != "depth-128.png" {
		t.Errorf("depth %q, files %+v", img.Recipe.Depth, f)
	}
	q.Depth = filepath.Join(steers, "lines-64.png")
	if render(t, d, q).Recipe.Result == img.Recipe.Result {
		t.Error("another depth map changes nothing")
	}
}

// save writes a grey picture.
func save(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, image.NewGray(image.Rect(0, 0, 64, 64))); err != nil {
		t.Fatal(err)
	}
}

// With --cache the outer layers see the controls in every step: the picture differs from the whole one, and follows its control.
func TestControlCached(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	for _, cache := range []string{"deepcache:every=2", "firstblock:threshold=0.2"} {
		whole := steered(p, "one=ring-64.png;t2i=lines-64.png:scale=0.5;ip.safetensors=face.png")
		whole.Steps = 6
		cached, other := whole, steered(p, "one=lines-64.png")
		other.Steps = 6
		cached.Cache, other.Cache = cache, cache
		a, b, c := render(t, p, whole), render(t, p, cached), render(t, p, other)
		near, far := psnr(a.Pixels, b.Pixels), psnr(c.Pixels, b.Pixels)
		if near < far+3 {
			t.Errorf("%s: %.1f dB from the whole picture, %.1f from one of another control", cache, near, far)
		}
	}
}

// A folder that diffusers wrote of a pipeline with a ControlNet is a model, and a control network.
func TestPipelineWithControlNet(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/models/sd1")); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"one": "controlnet", "image_encoder": "image_encoder"} {
		if err := os.CopyFS(filepath.Join(dir, to), os.DirFS(filepath.Join(steers, "nets", from))); err != nil {
			t.Fatal(err)
		}
	}
	index, err := os.ReadFile(filepath.Join(dir, "model_index.json"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(index), `"StableDiffusionPipeline",`, `"StableDiffusionControlNetPipeline", "controlnet": ["diffusers", "ControlNetModel"],`, 1)
	if err := os.WriteFile(filepath.Join(dir, "model_index.json"), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	ip := filepath.Join(t.TempDir(), "ip.safetensors")
	data, err := os.ReadFile(filepath.Join(steers, "nets/ip.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ip, data, 0o666); err != nil {
		t.Fatal(err)
	}
	p, plain := open(t, Options{Model: dir}), open(t, Options{Model: "testdata/models/sd1"})
	r := steered(p, "")
	ring := filepath.Join(steers, "ring-64.png")
	r.Control = dir + "=" + ring + ";" + ip + "=" + ring
	if a, b := render(t, p, r), render(t, plain, steered(plain, "one=ring-64.png;ip.safetensors=ring-64.png")); a.Recipe.Result != b.Recipe.Result {
		t.Errorf("%+v, want %+v", a.Recipe.Result, b.Recipe.Result)
	}
}

// Outside of the interval in which a control steers the model's own network runs, and costs what it costs without.
func TestControlOutsideOfItsInterval(t *testing.T) {
	p := open(t, Options{Model: "testdata/models/sd1"})
	for _, c := range []struct {
		control string
		plain   bool // at the last step
	}{{"one=ring-64.png:end=0.5", true}, {"one=ring-64.png:start=0.5", false}, {"one=ring-64.png:scale=0", true}, {"one=ring-64.png", false}} {
		render(t, p, steered(p, c.control))
		if plain, with := p.model.Denoiser.Part().Loaded(), p.steering.steered.Part().Loaded(); plain != c.plain || with == c.plain {
			t.Errorf("--control %s: after the last step the model's own network is there: %v, the one with controls: %v", c.control, plain, with)
		}
	}
	without, none := render(t, p, steered(p, "")), render(t, p, steered(p, "one=ring-64.png:scale=0"))
	if without.Recipe.Result != none.Recipe.Result {
		t.Error("a control without strength changes the picture")
	}
}
