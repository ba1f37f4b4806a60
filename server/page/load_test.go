package page

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestLoadsFast: from an empty cache the page is loaded within 200 ms. The best of some tries counts: the machine of the tests
// does other things too.
func TestLoadsFast(t *testing.T) {
	b := open(t, newFake(t), 1280, 800)
	best := 1e9
	for try := 0; try < 30 && best > 200; try++ { // the least disturbed try counts
		b.do(chromedp.Func(clearCache), chromedp.Navigate(b.origin+"/"))
		b.until(`document.querySelector("#basic .field") && performance.getEntriesByType("navigation")[0].loadEventEnd > 0`)
		ms := js[float64](b, `performance.getEntriesByType("navigation")[0].loadEventEnd`)
		sent := js[float64](b, `performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation")).filter(e => /static|\/$/.test(e.name)).reduce((n, e) => n + e.transferSize, 0)`)
		if sent < 10e3 || sent > 300e3 {
			t.Errorf("%g bytes were sent", sent)
		}
		best = min(best, ms)
	}
	limit := 200.0
	if load := loadAverage(); load > float64(runtime.NumCPU()) {
		limit = 1500
		t.Logf("the machine is busy (load %.1f): the limit is %.0f ms instead of 200", load, limit)
	}
	t.Logf("%.0f ms", best)
	if best > limit {
		t.Errorf("the page takes %.0f ms to load", best)
	}
}

// loadAverage is that of the last minute on Linux, 0 elsewhere.
func loadAverage() (load float64) {
	text, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(text), &load)
	}
	if err != nil {
		return 0
	}
	return load
}
