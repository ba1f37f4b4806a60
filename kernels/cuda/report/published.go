package main

import (
	"bytes"
	"fmt"
	"math"

	"darkroom/kernels"
	"darkroom/kernels/bench"
	"darkroom/tensor"
)

// figure is a speed that somebody measured and published, and how the model gets there.
type figure struct {
	what, source string
	card         gpu
	unit         string // "TFLOP/s" or "ms"
	value        float64
	predict      func(g gpu) float64
}

// attentionSpeed is of a batch of 16,384 tokens and 2,048 channels, as both papers and their benchmark take it.
func attentionSpeed(k kernel, length, size int) func(gpu) float64 {
	return func(g gpu) float64 {
		heads, images := 2048/size, 16384/length
		t := k.time(g, k.fixed.plus(k.step, float64(ceil(length, k.n))), ceil(length, k.m)*heads*images, 4*2*16384*2048/g.bandwidth/memoryShare) + launchTime
		return 4 * float64(length) * float64(length) * 2048 * float64(images) / t / 1e12
	}
}

func productSpeed(k kernel, m, n, depth int) func(gpu) float64 {
	return func(g gpu) float64 {
		l := library{products: []kernel{k}}
		if k.m == 0 {
			l = libraryOf(g, false)
		}
		memory := 2 * float64(m*n+m*depth+n*depth) / g.bandwidth / memoryShare
		return 2 * float64(m) * float64(n) * float64(depth) / l.product(g, m, n, depth, memory) / 1e12
	}
}

// stepMillis is the time of a step of a U-Net whose every layer runs on the library's kernels.
func stepMillis(u bench.UNet, latent, batch int, apart bool) func(gpu) float64 {
	return func(g gpu) float64 {
		u.Latent = latent
		l, t := libraryOf(g, apart), 0.0
		for _, layer := range u.Layers(batch) {
			t += float64(layer.Count) * l.layerTime(g, layer.Build(kernels.NewGraph(tensor.F16)))
		}
		return 1e3 * t
	}
}

const (
	flash2   = "Dao 2023, arXiv:2307.08691, section 4.1"
	flash3   = "Shah et al. 2024, arXiv:2407.08608, figure 5"
	ringTest = "github.com/gpu-mode/ring-attention, issue 10"
	profiler = "CUTLASS, media/docs/profiler.md"
	mamf     = "github.com/stas00/ml-engineering, compute/accelerator"
	chillee  = "Horace He, gist 2ec89696"
	tensorRT = "huggingface.co/stabilityai, stable-diffusion-xl-1.0-tensorrt"
	turbo    = "huggingface.co/stabilityai, sdxl-turbo-tensorrt"
	sfast    = "github.com/chengzeyi/stable-fast, README"
	fal      = "github.com/fal-ai/stable-diffusion-benchmarks"
)

func figures() (all []figure) {
	add := func(what, source string, card gpu, unit string, value float64, predict func(gpu) float64) {
		all = append(all, figure{what, source, card, unit, value, predict})
	}
	lengths := []int{512, 1024, 2048, 4096, 8192, 16384}
	series := func(what, source string, card gpu, k kernel, size int, values ...float64) {
		for i, v := range values {
			add(fmt.Sprintf("%s, heads of %d, %d tokens", what, size, lengths[i]), source, card, "TFLOP/s", v, attentionSpeed(k, lengths[i], size))
		}
	}
	fa2of64, fa2of128 := flashAttention(128, 128, 64, 4, 2, false), flashAttention(128, 64, 128, 4, 2, false)
	add("FlashAttention-2, heads of 128, 16384 tokens", flash2, a100, "TFLOP/s", 230, attentionSpeed(fa2of128, 16384, 128))
	series("FlashAttention-2", ringTest, a5000, fa2of64, 64, 84.1, 81.0, 81.3, 81.7, 81.9)
	series("FlashAttention-2", flash3, h100, fa2of64, 64, 282, 306, 318, 321, 322, 324)
	series("FlashAttention-2", flash3, h100, fa2of128, 128, 309, 350, 362, 368, 370, 370)
	series("FlashAttention-3", flash3, h100, flashAttention(192, 128, 64, 12, 1, true), 64, 333, 392, 460, 476, 496, 497)
	series("FlashAttention-3", flash3, h100, flashAttention(128, 128, 128, 8, 1, true), 128, 467, 565, 625, 638, 646, 648)

	add("product 3456×4096×8192, 256×128 tiles", profiler, a100, "TFLOP/s", 235.1, productSpeed(tiled(256, 128, 64, 64, 1), 3456, 4096, 8192))
	add("convolution 8×224×224×128 → 128, 3×3, float32 result, 128×128 tiles", profiler, a100, "TFLOP/s", 125.4, func(g gpu) float64 {
		k := tiled(128, 128, 64, 64, 1)
		rows, depth := 8*224*224, 9*128
		memory := (2*float64(rows*128) + 4*float64(rows*128)) / g.bandwidth / memoryShare
		return 2 * float64(rows) * 128 * float64(depth) / library{products: []kernel{k}}.product(g, rows, 128, depth, memory) / 1e12
	})
	add("product 1024×10240×5120, best of cuBLAS", mamf, a100, "TFLOP/s", 271.2, productSpeed(kernel{}, 1024, 10240, 5120))
	add("product 2048×2048×13312, best of cuBLAS", mamf, h100, "TFLOP/s", 794.5, productSpeed(kernel{}, 2048, 2048, 13312))
	add("product 4224×2048×8192, best of CUTLASS", chillee, h100, "TFLOP/s", 780.2, productSpeed(kernel{}, 4224, 2048, 8192))

	sdxl, sd15 := bench.SDXL, bench.SD15
	add("SDXL 1024×1024, U-Net, TensorRT, batch 2", tensorRT, a100, "ms", 3358.87/40, stepMillis(sdxl, 128, 2, true))
	add("SDXL 1024×1024, U-Net, TensorRT, batch 2", tensorRT, h100, "ms", 1772.29/40, stepMillis(sdxl, 128, 2, true))
	add("SDXL 1024×1024, U-Net, TensorRT, batch 1", tensorRT, a100, "ms", 192.02/4, stepMillis(sdxl, 128, 1, true))
	add("SDXL 1024×1024, U-Net, TensorRT, batch 1", tensorRT, h100, "ms", 102.8/4, stepMillis(sdxl, 128, 1, true))
	add("SDXL 512×512, U-Net, TensorRT, batch 1", turbo, a100, "ms", 79.31/4, stepMillis(sdxl, 64, 1, true))
	add("SDXL 512×512, U-Net, TensorRT, batch 1", turbo, h100, "ms", 48.87/4, stepMillis(sdxl, 64, 1, true))
	add("SD 1.5 512×512, step, stable-fast, batch 2", sfast, rtx4090, "ms", 1e3/61.8, stepMillis(sd15, 64, 2, false))
	add("SD 1.5 512×512, step, AITemplate, batch 2", sfast, rtx4090, "ms", 1e3/65.7, stepMillis(sd15, 64, 2, false))
	// Whole pictures of 50 steps, less text encoder and decoder as the two TensorRT repositories above give them.
	add("SD 1.5 512×512, step, TensorRT, batch 2", fal, a100, "ms", (819-54.7)/50, stepMillis(sd15, 64, 2, true))
	add("SDXL 1024×1024, step, TensorRT, batch 2", fal, a100, "ms", (4102-229.4)/50, stepMillis(sdxl, 128, 2, true))
	return all
}

// error is by how much the model is faster (positive) than what was published.
func (f figure) error(predicted float64) float64 {
	if f.unit == "ms" {
		return f.value/predicted - 1
	}
	return predicted/f.value - 1
}

// believed is the largest error of a model that one may plan by.
const believed = 0.25

func writePublished(b *bytes.Buffer) {
	var sum, worst float64
	var rows bytes.Buffer
	all := figures()
	for _, f := range all {
		p := f.predict(f.card)
		e := f.error(p)
		sum += math.Abs(e)
		worst = max(worst, math.Abs(e))
		fmt.Fprintf(&rows, "| %s | %s | %.1f %s | %.1f | %+.0f %% | %s |\n", f.what, f.card.name, f.value, f.unit, p, 100*e, f.source)
	}
	fmt.Fprintf(b, "\n## The model against published figures\n\nSpeeds that others measured of their own kernels, and what the same model says of these: their tiles and instructions, as far as they are published, in place of ours. "+
		"Steps are of every layer of the published U-Net on such kernels, the fastest tile for each. A positive error says that the model is faster than what was measured. Over %d figures the error is %.0f %% on average and %.0f %% at most.\n\n"+
		"| what | card | published | model | error | source |\n|---|---|---|---|---|---|\n%s", len(all), 100*sum/float64(len(all)), 100*worst, rows.String())
}
