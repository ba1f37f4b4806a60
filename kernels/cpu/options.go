package cpu

// Options for New; the zero value is right for most.
type Options struct {
	Threads      int    // 0: one for each processor that the program may use
	Instructions string // "avx512", "avx2", "base"; empty: the best that the processor has
}
