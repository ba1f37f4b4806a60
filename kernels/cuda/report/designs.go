package main

import (
	"fmt"

	"darkroom/kernels"
)

// The kernels of others, made up from what is published of them: the tile of a block and of a warp, and how many blocks fit.
// What a warp executes for these follows from the instructions: ldmatrix brings 16×16 halves, an mma multiplies 16×8×16,
// cp.async copies 16 bytes a lane.

// tiled is a matrix product in the manner of CUTLASS 2: rows×columns results a block, wm×wn a warp, steps 32 deep.
func tiled(m, n, wm, wn, resident int) kernel {
	warps := m * n / wm / wn
	mma := float64(m*n) * 32 / 2048
	fragments := float64(warps*(wm+wn)/16) * 2
	copies := float64(m+n) * 64 / 512
	return kernel{
		name: fmt.Sprintf("%d×%d", m, n), m: m, n: n, warps: warps, resident: resident,
		step:  cost{issued: mma + fragments + 2*copies + 12*float64(warps), mma: mma, shared: 4 * (fragments + copies)},
		fixed: cost{issued: 10*float64(m*n)/32 + 150*float64(warps), shared: float64(m*n) * 8 / 128},
	}
}

// wgmmaTiled is one in the manner of CUTLASS 3: warpgroups multiply 64 rows each from shared memory, steps 64 deep, and
// a warp beside them copies. A product reads its part of B, and its A, once.
func wgmmaTiled(m, n int) kernel {
	groups := m / 64
	mma := float64(m*n) * 64 / 2048
	return kernel{
		name: fmt.Sprintf("%d×%d wgmma", m, n), m: m, n: n, warps: 4 * groups, resident: 1, wgmma: true,
		step:  cost{issued: 40 * float64(groups), mma: mma, shared: float64(m + n)},
		fixed: cost{issued: 10*float64(m*n)/32 + 150*float64(4*groups), shared: float64(m*n) * 8 / 128},
	}
}

// flashAttention is FlashAttention: for each score a maximum, a multiply-add, an exponential, a sum and half a conversion;
// for each tile of keys the sums so far are scaled once. With wgmma, keys and values come from shared memory and not
// through registers, and warps of their own copy.
func flashAttention(queries, keys, size, warps, resident int, wgmma bool) kernel {
	scores := float64(queries*keys) / 32
	mma := float64(queries*keys*size) * 2 / 2048
	k := kernel{name: "flash attention", m: queries, n: keys, warps: warps, resident: resident, wgmma: wgmma}
	k.step = cost{issued: 4.5*scores + float64(queries*size)/32 + 20*float64(warps), mma: mma, exp: scores}
	if wgmma {
		k.step.shared = float64(4*keys*size) / 128
	} else {
		fragments := float64(warps*keys*size/256) * 2
		copies := float64(2*keys*size*2) / 512
		k.step.issued += mma + fragments + 2*copies
		k.step.shared = 4 * (fragments + copies)
	}
	k.fixed = cost{issued: 15 * float64(queries*size) / 32}
	return k
}

// library is the kernels of cuBLAS, cuDNN, TensorRT and xFormers, as far as their names tell of tiles, without a word on
// which is chosen: the model takes the fastest, as their tuning does, and splits sums as it likes.
type library struct {
	products []kernel
	flash    func(size int) kernel
	// apart says that the gate of a GEGLU is a kernel of its own, as TensorRT's SplitGelu is (onnxruntime, pull request 14428).
	apart bool
}

func libraryOf(g gpu, apart bool) library {
	l := library{apart: apart, products: []kernel{
		tiled(256, 128, 64, 64, 1), tiled(128, 256, 64, 64, 1), tiled(128, 128, 64, 64, 2), tiled(128, 64, 64, 32, 2),
		tiled(64, 128, 32, 64, 2), tiled(64, 64, 32, 32, 3),
	}}
	l.flash = func(size int) kernel {
		switch {
		case size <= 64:
			return flashAttention(128, 128, (size+15)/16*16, 4, 2, false)
		case size <= 128:
			return flashAttention(128, 64, (size+31)/32*32, 4, 2, false)
		}
		return flashAttention(128, 64, 256, 8, 1, false)
	}
	if g.arch == "90a" {
		l.products = append(l.products, wgmmaTiled(128, 256), wgmmaTiled(128, 128), wgmmaTiled(128, 64))
	}
	return l
}

// layerTime is an operation's with these kernels. What surrounds a product is fused into it, as TensorRT does.
func (l library) layerTime(g gpu, o kernels.Op) float64 {
	memory := float64(traffic(o)) / g.bandwidth / memoryShare
	switch o := o.(type) {
	case *kernels.Conv2D:
		w, out := o.W.Shape, o.OutShape()
		return l.product(g, out[0]*out[1]*out[2], w[0], w[1]*w[2]*w[3], memory)
	case *kernels.Linear:
		in := o.In.Shape
		rows, gate := in.Len()/in[len(in)-1], 0.0
		if o.Act.Gated() && l.apart {
			both := float64(2*rows*o.W.Shape[0]) / g.bandwidth / memoryShare
			memory += both / 2
			gate = 1.5*both + launchTime
		}
		return gate + l.product(g, rows, o.W.Shape[0], in[len(in)-1], memory)
	case *kernels.Attention:
		k := l.flash(o.Q.Shape[2] / o.Heads)
		blocks := ceil(o.Q.Shape[1], k.m) * o.Heads * o.Q.Shape[0]
		return k.time(g, k.fixed.plus(k.step, float64(ceil(o.K.Shape[1], k.n))), blocks, memory) + launchTime
	case *kernels.GroupNorm:
		return 1.5*memory + 2*launchTime
	}
	return memory + launchTime
}

func (l library) product(g gpu, rows, n, depth int, memory float64) float64 {
	best := 0.0
	for _, k := range l.products {
		deep := 32
		if k.wgmma {
			deep = 64
		}
		for splits := 1; splits <= 16; splits *= 2 {
			t := k.time(g, k.fixed.plus(k.step, float64(ceil(ceil(depth, deep), splits))), ceil(rows, k.m)*ceil(n, k.n)*splits, memory) + launchTime
			if splits > 1 {
				t += launchTime + float64(8*splits*rows*n)/g.bandwidth/memoryShare
			}
			if best == 0 || t < best {
				best = t
			}
		}
	}
	return best
}
