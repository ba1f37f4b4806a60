package compare

import (
	"testing"
	"time"

	"darkroom/pipeline"
)

func TestMeter(t *testing.T) {
	if m := openMeter(pipeline.Options{Backend: "cpu"}); m != nil {
		t.Error("a CPU has the meter of a GPU")
	}
	m := openMeter(pipeline.Options{Backend: "cuda"})
	if m == nil {
		t.Skip("SKIPPED: no NVIDIA GPU with an energy counter here, or several that cannot be told apart")
	}
	before, err := m.Joules()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	time.Sleep(500 * time.Millisecond)
	after, err := m.Joules()
	if err != nil {
		t.Fatal(err)
	}
	// Between an idle card and the largest there is.
	if watts := (after - before) / time.Since(begun).Seconds(); watts < 3 || watts > 2000 {
		t.Errorf("%.1f W", watts)
	} else {
		t.Logf("%.1f W", watts)
	}
}
