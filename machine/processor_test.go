//go:build unix

package machine

import (
	"testing"
	"time"
)

// A thread that computes for a while adds that much; sleep adds nothing.
func TestProcessorTime(t *testing.T) {
	start := ProcessorTime()
	if start <= 0 {
		t.Fatal("no time at all")
	}
	time.Sleep(200 * time.Millisecond)
	slept := ProcessorTime() - start
	for x := 0; ProcessorTime() < start+slept+50*time.Millisecond; x++ {
	}
	if slept > 150*time.Millisecond {
		t.Errorf("%v while the process slept", slept)
	}
}
