//go:build cuda && linux && (amd64 || arm64)

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

	"darkroom/atomicfile"
	"darkroom/kernels"
	"darkroom/kernels/conformance"
	"darkroom/tensor"
)

// quick are the checks of a first start; a variable for tests.
var quick = conformance.Quick

// OpenTested opens a device as Open does, and makes sure that it computes what it should: on the first use of a
// device, driver and build the quick part of the conformance suite runs, in a few seconds. A family of kernels that
// fails is replaced by its slower sibling, and warn is called. The verdict is remembered in the folder cache ("" means
// the user's cache folder). If the slower kernels fail too, there is an error: a device that computes wrongly is of no use.
func OpenTested(o Options, cache string, warn func(message string)) (kernels.Backend, error) {
	opened, err := Open(o)
	if err != nil {
		return nil, err
	}
	b := opened.(*Backend)
	path := verdictPath(b.device, o, cache)
	v, known := readVerdict(path)
	if !known || v.Wrong != "" { // a device that was of no use may have been repaired
		report := b.selfTest(conformance.Options{Match: quick})
		if v = report.Verdict; report.Broken == nil {
			writeVerdict(path, v) // where that fails, the test runs again next time
		}
		if err := report.err(b); err != nil {
			b.Close()
			return nil, err
		}
	}
	b.apply(v)
	tilesPath := ""
	if path != "" {
		tilesPath = strings.TrimSuffix(path, ".json") + "-tiles.json"
	}
	b.tuner = newTuner(tilesPath)
	if len(v.Failed) > 0 {
		warn(fmt.Sprintf("%s (%s) computes wrong results with %d of darkroom's fast kernels, for example %s. Slower ones are used instead; please report this, with the file %s",
			b.name, b.device.Name, len(v.Failed), v.Failed[0], path))
	}
	return b, nil
}

// SelfTest opens a device, runs the quick part of the conformance suite on it, or with full all of it, whatever was found
// before, and remembers the verdict for OpenTested. The error is of a device that cannot be opened.
func SelfTest(o Options, cache string, full bool) (Report, error) {
	opened, err := Open(o)
	if err != nil {
		return Report{}, err
	}
	b := opened.(*Backend)
	defer b.Close()
	checks := conformance.Options{Match: quick}
	if full {
		checks = conformance.Options{}
	}
	report := b.selfTest(checks)
	if report.Broken == nil {
		report.Path = verdictPath(b.device, o, cache)
		writeVerdict(report.Path, report.Verdict)
		// If the device hangs or is lost in a trial, the verdict before it stays.
		for _, try := range b.hopperTrials() {
			try(&report, checks)
			writeVerdict(report.Path, report.Verdict)
		}
	}
	return report, nil
}

// selfTest tests, replaces the families that fail, and tests again.
func (b *Backend) selfTest(o conformance.Options) Report {
	r := Report{Device: b.device, Verdict: Verdict{Device: b.device.Name, Driver: b.device.Driver, Build: buildID(), DType: b.typeName()}}
	v := &r.Verdict
	r.Checks = b.check(o)
	if v.Failed = failures(r.Checks); len(v.Failed) == 0 || b.broken != nil {
		r.Broken = b.broken
		return r
	}
	for _, f := range v.Failed {
		v.SimpleGEMM = v.SimpleGEMM || strings.HasPrefix(f, "conv2d") || strings.HasPrefix(f, "linear")
		v.SimpleAttention = v.SimpleAttention || strings.HasPrefix(f, "attention")
	}
	b.apply(*v)
	r.Again = b.check(o)
	if again := failures(r.Again); len(again) > 0 {
		v.Wrong, r.Broken = again[0], b.broken
	}
	return r
}

// check runs the suite, and its products once more by each family, because measured time may choose any of them later.
func (b *Backend) check(o conformance.Options) []conformance.Verdict {
	o.TF32 = b.tf32
	all := conformance.Check(b, o)
	if b.int8 {
		all = append(all, b.checkUnpack())
	}
	return append(all, b.checkProducts(o)...)
}

// checkProducts runs the suite's products by each family of the class.
func (b *Backend) checkProducts(o conformance.Options) (all []conformance.Verdict) {
	products := o
	products.Match = func(name string) bool {
		return (strings.HasPrefix(name, "conv2d/") || strings.HasPrefix(name, "linear/")) && (o.Match == nil || o.Match(name))
	}
	for _, f := range b.choices() {
		b.only = f
		for _, v := range conformance.Check(b, products) {
			v.Check += ", tile " + f.name
			all = append(all, v)
		}
	}
	b.only = nil
	return all
}

// typeName is the name of the type on the command line.
func (b *Backend) typeName() string {
	switch {
	case b.tf32:
		return "tf32"
	case b.int8 && b.dtype == tensor.BF16:
		return "int8 and bf16"
	case b.int8:
		return "int8"
	}
	return map[tensor.DType]string{tensor.F32: "fp32", tensor.F16: "fp16", tensor.BF16: "bf16"}[b.dtype]
}

func (b *Backend) apply(v Verdict) {
	hopper := b.mayHopper()
	switch {
	case v.SimpleGEMM:
		b.products = plain
	case v.Hopper == faster && hopper:
		b.products = wgmma
	}
	b.simpleAttention = b.simpleAttention || v.SimpleAttention
	b.hopperAttention = v.HopperAttention == faster && hopper && !b.simpleAttention
}

// err is why the device cannot be used, nil if it can.
func (r Report) err(b *Backend) error {
	switch {
	case r.Broken != nil:
		return fmt.Errorf("the self-test of %s (%s) broke off: %w", b.name, b.device.Name, r.Broken)
	case r.Verdict.Wrong != "":
		return fmt.Errorf("%s (%s, driver for CUDA %s) computes wrong results, and is not used: %s", b.name, b.device.Name, b.device.Driver, r.Verdict.Wrong)
	}
	return nil
}

func failures(checks []conformance.Verdict) (failed []string) {
	for _, c := range checks {
		if c.Err != nil {
			failed = append(failed, fmt.Sprintf("%s (%s): %v", c.Case, c.Check, c.Err))
		}
	}
	return failed
}

// Verdicts lists what the self-tests of a device have found so far, with this driver and this build.
func Verdicts(d Device, cache string) []Verdict {
	var all []Verdict
	for _, o := range []Options{{DType: tensor.F16}, {DType: tensor.BF16}, {DType: tensor.F32}, {DType: tensor.F32, TF32: true}, {DType: tensor.F16, Int8: true}, {DType: tensor.BF16, Int8: true}} {
		if v, ok := readVerdict(verdictPath(d, o, cache)); ok {
			all = append(all, v)
		}
	}
	return all
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
func verdictPath(d Device, o Options, cache string) string {
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return ""
		}
		cache = filepath.Join(user, "darkroom")
	}
	key := sha256.Sum256([]byte(fmt.Sprint(d.Name, d.Capability, d.Driver, buildID(), o.DType, o.Simple, o.TF32, o.Int8)))
	return filepath.Join(cache, "cuda-"+hex.EncodeToString(key[:8])+".json")
}

func readVerdict(path string) (v Verdict, ok bool) {
	body, err := os.ReadFile(path)
	return v, err == nil && json.Unmarshal(body, &v) == nil
}

func writeVerdict(path string, v Verdict) {
	body, err := json.MarshalIndent(v, "", "\t")
	if err == nil && path != "" {
		_ = atomicfile.WriteData(path, body) // a cache: without it, the next run tests again
	}
}
