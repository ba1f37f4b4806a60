package queue

import (
	"fmt"
	"io"

	"darkroom/batch/manifest"

	"github.com/VictoriaMetrics/metrics"
)

// Metrics are a worker's measurements for Prometheus.
type Metrics struct {
	Failed      *metrics.Counter
	Retried     *metrics.Counter
	StoreErrors *metrics.Counter
	Bytes       *metrics.Counter
	Render      *metrics.PrometheusHistogram // seconds an image
	Fetch       *metrics.PrometheusHistogram // seconds to get a job that was there
	Finish      *metrics.PrometheusHistogram // seconds to encode, store and acknowledge

	images, models *metrics.Set // by their labels
	families       []family
}

// family is a metric with all its labels.
type family struct {
	name, kind, help string
	set              *metrics.Set
}

// NewMetrics makes the measurements, all 0.
func NewMetrics() *Metrics {
	m := &Metrics{}
	set := func(name, kind, help string) (string, *metrics.Set) {
		f := family{"darkroom_worker_" + name, kind, help, metrics.NewSet()}
		m.families = append(m.families, f)
		return f.name, f.set
	}
	counter := func(name, help string) *metrics.Counter {
		name, s := set(name, "counter", help)
		return s.NewCounter(name)
	}
	histogram := func(name, help string, start float64) *metrics.PrometheusHistogram {
		name, s := set(name, "histogram", help)
		bounds := make([]float64, 14)
		for i := range bounds {
			bounds[i] = start * float64(int(1)<<i)
		}
		return s.NewPrometheusHistogramExt(name, bounds)
	}
	_, m.images = set("images_total", "counter", "Images that were rendered, stored and acknowledged.")
	m.Failed = counter("failed_total", "Jobs that failed for good.")
	m.Retried = counter("retried_total", "Jobs that failed and were given back to the queue.")
	m.StoreErrors = counter("store_errors_total", "Times that the store refused an image.")
	_, m.models = set("models_total", "counter", "Models that were opened and closed.")
	m.Render = histogram("render_seconds", "Time to render an image.", 0.05)
	m.Fetch = histogram("fetch_seconds", "Time to get a job from a queue that has one.", 0.0002)
	m.Finish = histogram("finish_seconds", "Time to encode, store and acknowledge an image.", 0.001)
	m.Bytes = counter("image_bytes_total", "Bytes of images that were stored.")
	return m
}

// Model counts a model that was opened or closed.
func (m *Metrics) Model(name string, opened bool) {
	event := map[bool]string{true: "opened", false: "closed"}[opened]
	m.models.GetOrCreateCounter(fmt.Sprintf("darkroom_worker_models_total{model=%q,event=%q}", name, event)).Inc()
}

// Write writes the measurements and those of the process in Prometheus' text format.
func (m *Metrics) Write(w io.Writer) {
	for _, f := range m.families {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
		f.set.WritePrometheus(w)
	}
	metrics.WriteProcessMetrics(w)
}

func (m *Metrics) done(r manifest.Record) {
	m.images.GetOrCreateCounter(fmt.Sprintf("darkroom_worker_images_total{device=%q}", r.Device)).Inc()
	m.Render.Update(r.Seconds)
	m.Bytes.AddInt64(r.Bytes)
}
