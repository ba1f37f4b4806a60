//go:build cuda && linux && amd64

package cuda

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"darkroom/kernels"
	"darkroom/kernels/conformance"
)

// quick are the cases of the conformance suite that reach every kernel once, at sizes that a GPU is done with in a
// moment: what takes time is the reference on the CPU.
var quick = []string{
	"conv2d/3×8×8×4 to 48", "conv2d/2×8×8×16 to 16, 3×3 stride 2", "conv2d/2×6×6×16+16", "conv2d/1×4×4×1280 to 64",
	"conv2d/2×8×8×64+32", "conv2d/2×8×8×320 to 176", "conv2d/1×16×16×320 to 320",
	"linear/2×77×64", "linear/2×31×33", "linear/2×13×40 to 64 geglu", "linear/2×64×320 to 256 geglu",
	"attention/2×64 queries, 77 keys, 2×40", "attention/2×64 queries, 64 keys, 1×64", "attention/1×65 queries, 65 keys, 2×80",
	"attention/1×17 queries, 129 keys, 2×160", "attention/2×6 queries, 10 keys, 1×512", "attention/1×24 queries, 24 keys, 4×32 causal",
	"attention/2×19 queries", "groupnorm/3×8×8×64+0", "groupnorm/2×5×7×5+7", "layernorm/2×5×320", "layernorm/3×7×13", "embed/3×77",
}

// verdict is the outcome of a self-test; it is kept in a file for the next start.
type verdict struct {
	Device, Driver, Build string
	Failed                []string // checks of the tensor-core kernels, with what was wrong
	SimpleGEMM            bool     // the simple kernels of a family replace the ones that failed
	SimpleAttention       bool
}

// OpenTested opens a device as Open does, and makes sure that it computes what it should: on the first use of a
// device, driver and build the quick part of the conformance suite runs, in a few seconds. A family of kernels that
// fails is replaced by its slower sibling, and warn is told. The verdict is remembered in the folder cache ("" means
// the user's cache folder). If the slower kernels fail too, there is an error: a device that computes wrongly is of no use.
func OpenTested(o Options, cache string, warn func(message string)) (kernels.Backend, error) {
	opened, err := Open(o)
	if err != nil {
		return nil, err
	}
	b := opened.(*Backend)
	path := b.verdictPath(cache)
	v, known := readVerdict(path)
	if !known {
		if v, err = b.selfTest(); err != nil {
			b.Close()
			return nil, err
		}
		writeVerdict(path, v) // where that fails, the test runs again next time
	}
	b.simpleGEMM = b.simpleGEMM || v.SimpleGEMM
	b.simpleAttention = b.simpleAttention || v.SimpleAttention
	if len(v.Failed) > 0 {
		warn(fmt.Sprintf("%s (%s) computes wrong results with %d of darkroom's fast kernels, for example %s. Slower ones are used instead; please report this, with the file %s",
			b.name, b.device.Name, len(v.Failed), v.Failed[0], path))
	}
	return b, nil
}

// SelfTest runs the quick part of the conformance suite on an open backend.
func SelfTest(b kernels.Backend) []conformance.Verdict {
	return conformance.Check(b, conformance.Options{Match: func(name string) bool {
		for _, q := range quick {
			if strings.HasPrefix(name, q) {
				return true
			}
		}
		return false
	}})
}

// selfTest tests, replaces the families that fail, and tests again.
func (b *Backend) selfTest() (verdict, error) {
	v := verdict{Device: b.device.Name, Driver: b.device.Driver, Build: buildID()}
	failures := func() (failed []string) {
		for _, c := range SelfTest(b) {
			if c.Err != nil {
				failed = append(failed, fmt.Sprintf("%s (%s): %v", c.Case, c.Check, c.Err))
			}
		}
		return failed
	}
	v.Failed = failures()
	if len(v.Failed) == 0 {
		return v, nil
	}
	for _, f := range v.Failed {
		v.SimpleGEMM = v.SimpleGEMM || strings.HasPrefix(f, "conv2d") || strings.HasPrefix(f, "linear")
		v.SimpleAttention = v.SimpleAttention || strings.HasPrefix(f, "attention")
	}
	b.simpleGEMM = b.simpleGEMM || v.SimpleGEMM
	b.simpleAttention = b.simpleAttention || v.SimpleAttention
	if again := failures(); len(again) > 0 {
		return v, fmt.Errorf("%s (%s, driver for CUDA %s) computes wrong results, and is not used: %s", b.name, b.device.Name, b.device.Driver, again[0])
	}
	return v, nil
}

// buildID is a hash of the kernels.
func buildID() string {
	h := sha256.New()
	fs.WalkDir(fatbins, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			body, _ := fatbins.ReadFile(path)
			h.Write(body)
		}
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// verdictPath is where the verdict on this device, driver, build and element type lies; "" if there is no place.
func (b *Backend) verdictPath(cache string) string {
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		cache = filepath.Join(user, "darkroom")
	}
	key := sha256.Sum256([]byte(fmt.Sprint(b.device.Name, b.device.Capability, b.device.Driver, buildID(), b.dtype, b.simpleGEMM)))
	return filepath.Join(cache, "cuda-"+hex.EncodeToString(key[:8])+".json")
}

func readVerdict(path string) (v verdict, ok bool) {
	body, err := os.ReadFile(path)
	return v, err == nil && json.Unmarshal(body, &v) == nil
}

func writeVerdict(path string, v verdict) {
	body, err := json.MarshalIndent(v, "", "\t")
	if err != nil || path == "" || os.MkdirAll(filepath.Dir(path), 0o755) != nil {
		return
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if os.WriteFile(temporary, body, 0o644) == nil && os.Rename(temporary, path) != nil {
		os.Remove(temporary)
	}
}
