package kernels

// Recorder is a Backend that can record what it is asked to do and repeat it at a fraction of the
// cost of asking again: a CUDA graph. Program.Run uses it from the second run on.
type Recorder interface {
	// Record runs f, which calls operations and nothing else, without executing them.
	Record(f func()) (Recording, error)
}

// Recording is a series of operations with their operands' places in memory.
type Recording interface {
	// Replay queues the operations; errors come with the backend's next Sync.
	Replay()
	Free()
}

// Forker is a Backend that can open another on its device, which computes the same bits beside it: a second stream.
// Each has weights and memory of its own.
type Forker interface {
	Fork() (Backend, error)
}
