package family

import (
	"strings"
	"testing"

	"darkroom/checkpoint"
	"darkroom/tensor"
)

// arrays are weights of these shapes.
type arrays map[string]tensor.Shape

func (a arrays) Names() (names []string) {
	for name := range a {
		names = append(names, name)
	}
	return names
}

func (a arrays) Array(name string) (tensor.Array, bool) {
	s, ok := a[name]
	return tensor.Stored(tensor.Tensor{DType: tensor.F32, Shape: s, Data: make([]byte, 4*s.Len())}), ok
}

// IP-Adapters that read embeddings of faces say what they need and what to use instead.
func TestFaceAdaptersAreRefused(t *testing.T) {
	for want, w := range map[string]checkpoint.Weights{
		"InsightFace":     arrays{"image_proj.proj.0.weight": {1024, 512}, "ip_adapter.1.to_k_ip.weight": {320, 768}},
		"plus kind":       arrays{"ip_adapter.0.to_q_lora.down.weight": {4, 320}},
		"a full-face IP-": arrays{"image_proj.proj.0.weight": {1280, 1280}},
	} {
		if err := otherImagePrompt(w); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if err := otherImagePrompt(arrays{"image_proj.proj.weight": {3072, 1024}, "ip_adapter.1.to_k_ip.weight": {320, 768}}); err != nil {
		t.Errorf("a plain one: %v", err)
	}
}
