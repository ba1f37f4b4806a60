package nn_test

import (
	"math"
	"strings"
	"testing"

	"darkroom/internal/golden"
	"darkroom/kernels"
	"darkroom/nn"
	"darkroom/tensor"
)

// Each operation rounds its result to float32, by at most 6·10⁻⁸ of it, after exact sums; the golden values are float64
// inside. A layer is up to eight operations in a row.
const tolerance = 5e-7

// Layers against diffusers and torch.
func TestLayers(t *testing.T) {
	names := nn.AttentionNames{Q: "to_q", K: "to_k", V: "to_v", Out: "to_out.0"}
	for name, write := range map[string]func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, value func(string) *kernels.Tensor) *kernels.Tensor{
		"resblock": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, value func(string) *kernels.Tensor) *kernels.Tensor {
			times := l.Times(12)
			b := l.ResBlock(8, 8, times, 4, 1e-5)
			times.Load()
			return b.Forward(g, x, nil, times.Forward(g, value("temb")))
		},
		"resblock-shortcut": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, value func(string) *kernels.Tensor) *kernels.Tensor {
			times := l.Times(12)
			b := l.ResBlock(12, 8, times, 4, 1e-3)
			times.Load()
			return b.Forward(g, x, nil, times.Forward(g, value("temb")))
		},
		"resblock-plain": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, _ func(string) *kernels.Tensor) *kernels.Tensor {
			return l.ResBlock(6, 9, nil, 3, 1e-6).Forward(g, x, nil, nn.Time{})
		},
		"self-attention": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, _ func(string) *kernels.Tensor) *kernels.Tensor {
			return l.Attention(names, 12, 12, 3).Forward(g, x, nil, nil)
		},
		"self-attention in one": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, _ func(string) *kernels.Tensor) *kernels.Tensor {
			return l.SelfAttention(names, 12, 3).Forward(g, x, nil, nil)
		},
		"cross-attention": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, value func(string) *kernels.Tensor) *kernels.Tensor {
			return l.Attention(names, 12, 10, 2).Forward(g, x, value("context"), nil)
		},
		"downsample": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, _ func(string) *kernels.Tensor) *kernels.Tensor {
			conv := l.At("conv").Conv2D(6, 6, 3)
			conv.Stride = 2
			return conv.Forward(g, x, nn.Conv{})
		},
		"upsample": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, _ func(string) *kernels.Tensor) *kernels.Tensor {
			return l.At("conv").Conv2D(6, 6, 3).Forward(g, x, nn.Conv{Upsample: [2]int{2 * x.Shape[1], 2 * x.Shape[2]}})
		},
		"groupnorm": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, _ func(string) *kernels.Tensor) *kernels.Tensor {
			return l.GroupNorm(12, 4, 1e-4).Forward(g, x, nil)
		},
		"layernorm": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, _ func(string) *kernels.Tensor) *kernels.Tensor {
			return l.LayerNorm(12, 1e-3).Forward(g, x)
		},
		"linear": func(g *kernels.Graph, l nn.Loader, x *kernels.Tensor, _ func(string) *kernels.Tensor) *kernels.Tensor {
			return l.Linear(12, 7).Forward(g, x, kernels.Identity, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			net := golden.Open(t, "testdata/layers.safetensors").Network(t, strings.TrimSuffix(name, " in one"))
			net.Call("run").Check(t, tolerance, func(g *kernels.Graph, in *golden.Inputs) golden.Results {
				value := func(key string) *kernels.Tensor { return in.Value(key, nil) }
				out := write(g, net.Loader, value("in"), value)
				if err := net.Loader.Err(); err != nil {
					t.Fatal(err)
				}
				return golden.Results{"out": out}
			})
		})
	}
}

// source is a checkpoint of arrays that count their elements.
type source map[string]tensor.Tensor

func (s source) Array(name string) (tensor.Array, bool) {
	t, ok := s[name]
	return tensor.Stored(t), ok
}

func counting(d tensor.DType, shape ...int) tensor.Tensor {
	t := tensor.Tensor{DType: d, Shape: shape}
	t.Data = make([]byte, t.Shape.Len()*d.Size())
	values := make([]float32, t.Shape.Len())
	for i := range values {
		values[i] = float32(i)
	}
	if d.IsFloat() {
		tensor.Encode(t.Data, d, values)
	}
	return t
}

// What is missing or of another shape is collected, each by its name.
func TestLoaderCollectsErrors(t *testing.T) {
	l := nn.NewLoader("unet", source{"a.weight": counting(tensor.F32, 4, 3), "b.weight": counting(tensor.I32, 4, 3), "c.weight": counting(tensor.F16, 6)})
	l.At("a").Linear(3, 4)
	l.At("a").Linear(5, 4)
	l.At("b").Linear(3, 4)
	l.At("blocks", 2, "d").Linear(3, 4)
	l.At("c").GroupNorm(6, 4, 1e-5)
	l.At("e").Attention(nn.AttentionNames{Q: "q", K: "k", V: "v", Out: "o"}, 6, 6, 4)
	err := l.Err()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"a.weight is 4×3, but config.json asks for 4×5", "b.weight has element type", "no weight blocks.2.d.weight (4×3)", "6 channels do not make 4 groups",
		"6 channels do not make 4 attention heads", "and"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
	if n := strings.Count(err.Error(), "\n"); n > 8 {
		t.Errorf("%d lines: only the first errors are wanted", n+1)
	}
}

// A 1×1 filter is read as a matrix and the other way round; one array is one weight; what nobody read is known.
func TestLoaderFindsWeights(t *testing.T) {
	l := nn.NewLoader("vae", source{"q.weight": counting(tensor.F32, 2, 3, 1, 1), "q.bias": counting(tensor.F32, 2), "k.weight": counting(tensor.F32, 2, 3)})
	q, k := l.At("q").Linear(3, 2), l.At("k").Conv2D(3, 2, 1)
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	if q.Weight.Name != "vae.q.weight" || !q.Weight.Shape.Equal(tensor.Shape{2, 3}) || q.Bias == nil || !k.Weight.Shape.Equal(tensor.Shape{2, 3, 1, 1}) || k.Bias != nil {
		t.Errorf("%+v and %+v", q, k)
	}
	if again := l.At("q").Linear(3, 2); again.Weight != q.Weight {
		t.Error("an array that is read twice is two weights")
	}
	if left := l.Unused([]string{"q.weight", "x.weight", "q.bias", "embeddings.position_ids", "a.weight"}); strings.Join(left, " ") != "a.weight x.weight" {
		t.Errorf("left over: %v", left)
	}
}

// Made-up weights keep the size of what they multiply: variance 1/fan-in, norms near 1.
func TestRandom(t *testing.T) {
	for name, shape := range map[string]tensor.Shape{"a.weight": {320, 640}, "b.conv.weight": {64, 32, 3, 3}, "norm1.weight": {3200}, "a.bias": {3200}} {
		values := make([]float32, shape.Len())
		if err := (nn.Random{DType: tensor.F16}).Make(name, shape).Decode(values, 0); err != nil {
			t.Fatal(err)
		}
		var mean, square float64
		for _, v := range values {
			mean += float64(v) / float64(len(values))
			square += float64(v) * float64(v) / float64(len(values))
		}
		wantMean, wantDeviation := 0.0, 1/math.Sqrt(float64(shape.Len()/shape[0]))
		if len(shape) == 1 {
			wantDeviation = 0.02
		}
		if strings.Contains(name, "norm") {
			wantMean = 1
		}
		// A mean of n numbers is off by a deviation over √n, six at the very most.
		deviation := math.Sqrt(square - mean*mean)
		if math.Abs(mean-wantMean) > 6*wantDeviation/math.Sqrt(float64(len(values))) || math.Abs(deviation/wantDeviation-1) > 0.08 {
			t.Errorf("%s: mean %.4f, deviation %.4f; want %.4f and %.4f", name, mean, deviation, wantMean, wantDeviation)
		}
	}
	if a := (nn.Random{ShapesOnly: true}).Make("a.weight", tensor.Shape{1 << 20, 1 << 20}); a != nil {
		t.Error("an array of a graph that is only planned")
	}
}
