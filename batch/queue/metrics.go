package queue

import (
	"darkroom/batch/manifest"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are a worker's measurements for Prometheus.
type Metrics struct {
	Done        *prometheus.CounterVec // by device
	Failed      prometheus.Counter
	Retried     prometheus.Counter
	StoreErrors prometheus.Counter
	Models      *prometheus.CounterVec // opened and closed, by model
	Render      prometheus.Histogram   // seconds an image
	Fetch       prometheus.Histogram   // seconds to get a job that was there
	Finish      prometheus.Histogram   // seconds to encode, store and acknowledge
	Bytes       prometheus.Counter
}

// NewMetrics makes the measurements and registers them; nil registers nothing.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "darkroom", Subsystem: "worker", Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "darkroom", Subsystem: "worker", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, start, factor float64, n int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "darkroom", Subsystem: "worker", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(start, factor, n)})
	}
	m := &Metrics{
		Done:        vec("images_total", "Images that were rendered, stored and acknowledged.", "device"),
		Failed:      counter("failed_total", "Jobs that failed for good."),
		Retried:     counter("retried_total", "Jobs that failed and were given back to the queue."),
		StoreErrors: counter("store_errors_total", "Times that the store refused an image."),
		Models:      vec("models_total", "Models that were opened and closed.", "model", "event"),
		Render:      histogram("render_seconds", "Time to render an image.", 0.05, 2, 14),
		Fetch:       histogram("fetch_seconds", "Time to get a job from a queue that has one.", 0.0002, 2, 14),
		Finish:      histogram("finish_seconds", "Time to encode, store and acknowledge an image.", 0.001, 2, 14),
		Bytes:       counter("image_bytes_total", "Bytes of images that were stored."),
	}
	if r != nil {
		r.MustRegister(m.Done, m.Failed, m.Retried, m.StoreErrors, m.Models, m.Render, m.Fetch, m.Finish, m.Bytes)
	}
	return m
}

func (m *Metrics) done(r manifest.Record) {
	m.Done.WithLabelValues(r.Device).Inc()
	m.Render.Observe(r.Seconds)
	m.Bytes.Add(float64(r.Bytes))
}
