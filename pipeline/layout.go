package pipeline

// toNHWC copies an image from channel planes [C,H·W], the order in which torch draws noise and the
// samplers work, to interleaved channels [H·W,C], the order of the kernels.
func toNHWC(dst, src []float32, channels int) {
	pixels := len(src) / channels
	for c := range channels {
		for i, v := range src[c*pixels:][:pixels] {
			dst[i*channels+c] = v
		}
	}
}

// toNCHW is the inverse of toNHWC.
func toNCHW(dst, src []float32, channels int) {
	pixels := len(src) / channels
	for c := range channels {
		plane := dst[c*pixels:][:pixels]
		for i := range plane {
			plane[i] = src[i*channels+c]
		}
	}
}
