package main

import (
	"bytes"
	"fmt"

	"darkroom/kernels"
	"darkroom/kernels/bench"
	"darkroom/kernels/cuda"
	"darkroom/tensor"
)

// formerLaunches is how many kernels an operation took before groups were normalised in one launch or two, and before
// the last part of a split sum added all of them.
func formerLaunches(o kernels.Op) int {
	split := func(rows, n, k int) int { // for 128 blocks of 64×64 an image
		if min(128/(ceil(rows, 64)*ceil(n, 64)), ceil(k, 32)/8) > 1 {
			return 2
		}
		return 1
	}
	switch o := o.(type) {
	case *kernels.GroupNorm:
		return 3
	case *kernels.Conv2D:
		w, out := o.W.Shape, o.OutShape()
		return split(out[1]*out[2], w[0], w[1]*w[2]*w[3])
	case *kernels.Linear:
		in := o.In.Shape
		return split(in.Len()/in[len(in)-1]/in[0], o.W.Shape[0], in[len(in)-1])
	}
	return 1
}

// stepLaunches counts the kernels of a step, by kind of operation, formerly and now.
func stepLaunches(u bench.UNet) (former, now map[string]int) {
	former, now = map[string]int{}, map[string]int{}
	for _, l := range u.Layers(2) {
		former[l.Kind] += l.Count * formerLaunches(l.Build(kernels.NewGraph(tensor.F16)))
	}
	for _, l := range u.Step(2) {
		if !l.Steady {
			now[l.Kind] += l.Count * cuda.Launches(l.Build(kernels.NewGraph(tensor.F16)), tensor.F16)
		}
	}
	return former, now
}

func writeLaunches(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n## Launches a step\n\nKernels of a step of the U-Net, for a batch of two. Formerly a GroupNorm took three, a split sum was added up by a kernel of its own, the text's keys and values were made in every step, and every layer of the checkpoint was a product of its own. "+
		"Now a GroupNorm takes one (of an image that is small enough) or two, the last part of a split sum adds all, what depends on the text alone is made once a prompt, "+
		"queries, keys and values of self-attention are one product, all blocks' time embeddings two, and a LayerNorm is part of the product that follows it.\n\n| model | |")
	kinds := []string{"conv2d", "linear", "attention", "groupnorm", "layernorm"}
	for _, k := range kinds {
		fmt.Fprintf(b, " %s |", k)
	}
	fmt.Fprintf(b, " all | share |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, u := range []bench.UNet{bench.SD15, bench.SDXL} {
		former, now := stepLaunches(u)
		var before, after int
		for _, k := range kinds {
			before += former[k]
			after += now[k]
		}
		for i, count := range []map[string]int{former, now} {
			fmt.Fprintf(b, "| %s | %s |", u.Name, []string{"formerly", "now"}[i])
			for _, k := range kinds {
				fmt.Fprintf(b, " %d |", count[k])
			}
			if i == 0 {
				fmt.Fprintf(b, " %d | |\n", before)
			} else {
				fmt.Fprintf(b, " %d | %.0f %% |\n", after, 100*float64(after)/float64(before))
			}
		}
	}
}
