package main

// gpu is a card's dense float16 peak with float32 sums, its memory's, and what the model needs of its processors.
// Peaks are the makers' data sheets'. Hopper's peak is that of its wgmma instruction; mma.sync reaches some 62 % of it
// (Luo et al. 2024, "Benchmarking and dissecting the Nvidia Hopper GPU").
type gpu struct {
	name             string
	flops, bandwidth float64
	arch             string
	processors       int
	clock            float64 // at which the peak is reckoned
	sustained        float64 // the part of it that remains while wgmma keeps the tensor cores busy; mma.sync needs less power
	cycles           float64 // of a processor for an mma (16×8×16) at the peak
}

var (
	a100    = gpu{"A100 80 GB", 312e12, 2.04e12, "80", 108, 1.41e9, 1, 2}
	rtx4090 = gpu{"RTX 4090", 165e12, 1.01e12, "89", 128, 2.52e9, 1, 8}
	h100    = gpu{"H100 SXM", 989e12, 3.35e12, "90a", 132, 1.83e9, hopperClock, 1 / 0.62}
	h200    = gpu{"H200", 989e12, 4.8e12, "90a", 132, 1.83e9, hopperClock, 1 / 0.62}
	a5000   = gpu{"RTX A5000", 111e12, 0.768e12, "86", 64, 1.695e9, 1, 4}

	// gpus are the cards that the steps are modelled on; the A5000 serves as a check alone.
	gpus = []gpu{a100, rtx4090, h100, h200}
)

// hopperClock is what a Hopper card's 700 W leave of its clock: the best product that anyone has published for an H100 is
// at 80 % of the peak, for a GH200 with 900 W at 84 % (see published.go).
const hopperClock = 0.85

// memoryShare is the part of the data sheet's bandwidth that copying reaches.
const memoryShare = 0.9

// launchTime is what a kernel costs in a recorded graph beyond its work: assumed.
const launchTime = 1e-6

// blockLatency is what a block waits for, whatever else runs: its start, its first operands, its last stores. In cycles.
const blockLatency = 1500

// cost is what one block asks of its processor: instructions of a warp; mma; cycles of shared memory; instructions for
// exponentials, of which the special-function units take two cycles each.
type cost struct{ issued, mma, shared, exp float64 }

func (a cost) plus(b cost, times float64) cost {
	return cost{a.issued + times*b.issued, a.mma + times*b.mma, a.shared + times*b.shared, a.exp + times*b.exp}
}

// kernel is one as the model sees it. A block costs `fixed`, a step of its main loop `step`, and a change of the filter's tap `tap`.
type kernel struct {
	name             string
	m, n             int // results of a block, or queries and keys of a step
	warps            int
	resident         int // blocks that a processor holds
	wgmma            bool
	fixed, step, tap cost
}

// time is of blocks that cost c each, on the processor that has the most of them.
//
// A processor is a closed network of queues: tensor cores, issue slots (4 a cycle), shared memory, special-function units
// and its part of the card's memory (which needs `memory` seconds for all blocks) serve as many customers as there are
// warps on a scheduler, and each customer waits for blockLatency once a block. How many pass in a time follows
// by mean value analysis (Reiser and Lavenberg 1980): one customer alone waits for the sum of all, many for the busiest
// resource alone.
func (k kernel) time(g gpu, c cost, blocks int, memory float64) float64 {
	each := ceil(blocks, g.processors)
	cycles, clock := g.cycles, g.clock
	if k.wgmma {
		cycles, clock = 1, g.clock*g.sustained
	}
	share := float64(k.warps) / 4 // customers that a block is made of
	demands := [5]float64{c.mma * cycles / share, c.issued / 4 / share, c.shared / share, 2 * c.exp / share, memory * clock * min(1, float64(g.processors)/float64(blocks)) / share}
	customers := max(1, min(each, k.resident)) * k.warps / 4
	var queue [5]float64
	var rate float64
	for n := 1; n <= customers; n++ {
		total := float64(blockLatency)
		var wait [5]float64
		for i, d := range demands {
			wait[i] = d * (1 + queue[i])
			total += wait[i]
		}
		rate = float64(n) / total
		for i := range queue {
			queue[i] = rate * wait[i]
		}
	}
	return float64(each) * share / rate / clock
}

func ceil(a, b int) int { return (a + b - 1) / b }
