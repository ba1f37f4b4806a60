package clip

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/kernels"
	"darkroom/kernels/ref"
	"darkroom/nn"
	"darkroom/tensor"
)

// part is the weights of one model of the golden file: names after "quick:".
type part struct {
	file   *checkpoint.File
	prefix string
}

func (p part) Tensor(name string) (tensor.Tensor, bool) { return p.file.Tensor(p.prefix + ":" + name) }

func (p part) Array(name string) (tensor.Array, bool) {
	t, ok := p.Tensor(name)
	return tensor.Stored(t), ok
}

func (p part) names() []string {
	var names []string
	for _, n := range p.file.Names() {
		if n, ok := strings.CutPrefix(n, p.prefix+":"); ok && n != "ids" && !strings.HasPrefix(n, "skip") {
			names = append(names, n)
		}
	}
	return names
}

func TestTextModelAgainstTransformers(t *testing.T) {
	file, err := checkpoint.Open("testdata/text.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if len(file.Metadata()) < 2 {
		t.Errorf("only %d golden models", len(file.Metadata()))
	}
	for name, config := range file.Metadata() {
		t.Run(name, func(t *testing.T) {
			c, err := checkpoint.ParseConfig([]byte(config), name)
			if err != nil {
				t.Fatal(err)
			}
			text, err := ReadTextConfig(c)
			if err != nil {
				t.Fatal(err)
			}
			weights := part{file, name}
			loader := nn.NewLoader("text_encoder", weights)
			m, err := NewText(text, loader)
			if err != nil {
				t.Fatal(err)
			}
			if left := loader.Unused(weights.names()); len(left) > 0 {
				t.Errorf("weights that nothing reads: %v", left)
			}
			raw, _ := weights.Tensor("ids")
			ids := make([]int32, raw.Len())
			for i := range ids {
				ids[i] = int32(binary.LittleEndian.Uint32(raw.Data[4*i:]))
			}
			for skip := range m.Layers() {
				want, _ := weights.Tensor(fmt.Sprint("skip", skip))
				checkHidden(t, skip, encodeText(t, m, ids, skip), want)
			}
		})
	}
}

// encodeText runs the encoder on the reference backend.
func encodeText(t *testing.T, m *TextModel, ids []int32, skip int) []float32 {
	t.Helper()
	g := nn.Graph(m, tensor.F32, nn.Sizes{Rows: len(ids) / m.Config.MaxPositionEmbeddings, Skip: skip})
	in, out := g.In("ids"), g.Out("hidden")
	p, err := g.Compile(ref.New(1))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.WriteIDs(in, ids); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	hidden := make([]float32, out.Shape.Len())
	if err := p.Read(hidden, out); err != nil {
		t.Fatal(err)
	}
	return hidden
}

func checkHidden(t *testing.T, skip int, got []float32, golden tensor.Tensor) {
	t.Helper()
	want := make([]float32, golden.Len())
	golden.Float32(want)
	if len(got) != len(want) {
		t.Fatalf("clip skip %d: %d values, want %d", skip, len(got), len(want))
	}
	// The golden states are float64 inside. Here each of some 10 operations a layer rounds to float32, by 3·10⁻⁸ of
	// values up to 10, and three layers of random weights may grow that tenfold.
	const tolerance = 1e-5
	worst := 0.0
	for i := range got {
		d := math.Abs(float64(got[i] - want[i]))
		if !(d <= tolerance) {
			t.Fatalf("clip skip %d, value %d: got %v, want %v, off by %g", skip, i, got[i], want[i], d)
		}
		worst = max(worst, d)
	}
	t.Logf("clip skip %d: off by at most %.1g", skip, worst)
}

// A token's state does not depend on what follows it.
func TestTextModelIsCausal(t *testing.T) {
	c := TextConfig{VocabSize: 20, HiddenSize: 16, IntermediateSize: 32, NumHiddenLayers: 2, NumAttentionHeads: 2,
		MaxPositionEmbeddings: 6, Act: kernels.QuickGELU, LayerNormEps: 1e-5}
	m, err := NewText(c, nn.NewLoader("text_encoder", nn.Random{}))
	if err != nil {
		t.Fatal(err)
	}
	hidden := encodeText(t, m, []int32{1, 2, 3, 4, 5, 6, 1, 2, 3, 9, 9, 9}, 0)
	half := len(hidden) / 2
	for token := range c.MaxPositionEmbeddings {
		same := true
		for i := token * c.HiddenSize; i < (token+1)*c.HiddenSize; i++ {
			same = same && hidden[i] == hidden[half+i]
		}
		if same != (token < 3) {
			t.Errorf("token %d: the same in both rows is %v; the ids agree up to token 2", token, same)
		}
	}
}

func TestTextConfigRefusesWhatItCannotRun(t *testing.T) {
	for config, want := range map[string]string{
		`{"hidden_act": "relu"}`:             "relu",
		`{"model_type": "t5"}`:               "t5",
		`{"num_hidden_layers": 0}`:           "num_hidden_layers",
		`{"max_position_embeddings": 2}`:     "max_position_embeddings",
		`{"hidden_size": -1}`:                "hidden_size",
		`{"relative_attention_buckets": 32}`: "relative_attention_buckets",
		`{"vocab_size": 99999999999}`:        "vocab_size",
		`{"layer_norm_eps": "small"}`:        "layer_norm_eps",
	} {
		c, err := checkpoint.ParseConfig([]byte(config), "text_encoder/config.json")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadTextConfig(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that names %s", config, err, want)
		}
	}
}

// Heads that do not divide the width, and missing weights, are found before anything is computed.
func TestNewTextReportsWhatIsWrong(t *testing.T) {
	empty, err := checkpoint.Parse([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"), "empty.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	c := TextConfig{VocabSize: 9, HiddenSize: 8, IntermediateSize: 8, NumHiddenLayers: 1, NumAttentionHeads: 3, MaxPositionEmbeddings: 5}
	_, err = NewText(c, nn.NewLoader("text_encoder", part{empty, ""}))
	if err == nil || !strings.Contains(err.Error(), "embeddings.token_embedding.weight") {
		t.Errorf("no weights: error %v", err)
	}
	_, err = NewText(c, nn.NewLoader("text_encoder", nn.Random{}))
	if err == nil || !strings.Contains(err.Error(), "attention heads") {
		t.Errorf("3 heads of 8 channels: error %v", err)
	}
}
