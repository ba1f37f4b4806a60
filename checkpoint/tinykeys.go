package checkpoint

import (
	"fmt"
	"strconv"
	"strings"
)

// tinyVAE finds TAESD in a file, whole or its decoder alone, and gives it the names and the configuration that diffusers has: there the
// decoder's list lacks the clamp that the original begins with. nil for other files.
func tinyVAE(all table) (table, object) {
	if !all.hasTAESDBlock() {
		return nil, nil
	}
	out := table{}
	move := func(prefix, side string, shift int) bool {
		found := false
		for name, a := range all.below(prefix) {
			index, rest, _ := strings.Cut(name, ".")
			i, err := strconv.Atoi(index)
			if err != nil || i+shift < 0 || i > 1<<10 {
				continue
			}
			out[fmt.Sprintf("%s.layers.%d.%s", side, i+shift, rest)] = a
			found = true
		}
		return found
	}
	move("encoder.layers.", "encoder", 0)
	move("taesd_encoder.", "encoder", 0)
	if !move("decoder.layers.", "decoder", 0) && !move("taesd_decoder.", "decoder", -1) && all["1.weight"] != nil {
		move("", "decoder", -1)
	}
	down, _ := tinyRuns(out, "encoder.layers.")
	up, latents := tinyRuns(out, "decoder.layers.")
	if up == nil {
		return nil, nil
	}
	if down == nil {
		down = make([]int, len(up)) // it is not there
		for i := range down {
			down[i] = 1
		}
	}
	widths := func(side string) (w []int) {
		for range up {
			w = append(w, max(out.axis(side+".layers.0.weight", 0), 1))
		}
		return w
	}
	c := object{"_class_name": "AutoencoderTiny", "latent_channels": latents, "num_encoder_blocks": down, "num_decoder_blocks": up,
		"encoder_block_out_channels": widths("encoder"), "decoder_block_out_channels": widths("decoder"), "scaling_factor": 1.0}
	return out, c
}

// tinyRuns counts the blocks between one convolution and the next, and gives what the first one reads. nil if there are none.
func tinyRuns(t table, prefix string) (runs []int, in int) {
	kinds := map[int]bool{} // index → it is a block
	last := -1
	for name := range t.below(prefix) {
		index, rest, _ := strings.Cut(name, ".")
		i, err := strconv.Atoi(index)
		if err != nil || rest != "weight" && rest != "conv.0.weight" {
			continue
		}
		kinds[i], last = rest != "weight", max(last, i)
	}
	if block, ok := kinds[0]; !ok || block {
		return nil, 0
	}
	run := 0
	for i := 1; i <= last; i++ {
		block, ok := kinds[i]
		switch {
		case !ok: // an activation or a doubling
		case block:
			run++
		default:
			runs, run = append(runs, run), 0
		}
	}
	return runs, t.axis(prefix+"0.weight", 1)
}
