package cuda

// The tiles of Hopper's kernels. Like plan.go they need no device.

// HopperTile is one of gemm_sm90.cuh's: 128 rows, so many columns, and stages of 64 columns of K.
type HopperTile struct {
	Columns, Stages int
	share           float64 // of the peak: see family
}

const (
	hopperRows    = 128 // of A, a tile
	hopperColumns = 64  // of K, a stage
)

// HopperTiles lists the best guess first. 320, 640 and 1280 channels are multiples of 160 and 80.
var HopperTiles = []HopperTile{{256, 4, 1}, {160, 5, 0.95}, {128, 6, 0.9}, {80, 6, 0.7}, {64, 6, 0.6}}

// Shared is the bytes of shared memory of a block: stages of 128 bytes of each row of A and B, results of 16 rows by 64
// columns for each of 8 warps, a norm for each row, two barriers a stage, and room to begin at a multiple of 1024.
func (t HopperTile) Shared() int {
	return t.Stages*(hopperRows+t.Columns)*128 + 8*16*64*4 + 8*hopperRows + 16*t.Stages + 1024
}

// HopperHeads is one of attention_sm90.cuh's tiles: heads of up to Size channels, so many keys at a time.
type HopperHeads struct{ Size, Keys int }

const hopperQueries = 128 // of a block

var hopperHeads = []HopperHeads{{40, 128}, {64, 128}, {80, 128}, {128, 128}, {160, 64}}

// HopperHeadsOf is the smallest tile for heads of a size. Heads of more than 160 channels have no room, and rows of heads
// that are not multiples of 16 bytes cannot be copied.
func HopperHeadsOf(size int) (t HopperHeads, ok bool) {
	for _, t = range hopperHeads {
		if size <= t.Size && size%8 == 0 {
			return t, true
		}
	}
	return t, false
}

// Shared is of queries, two tiles of keys and values each, and barriers, from a multiple of 1024 on.
func (t HopperHeads) Shared() int {
	return ceil(t.Size, 64)*128*(hopperQueries+4*t.Keys) + 16 + 32*2 + 1024
}
