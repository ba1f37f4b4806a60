package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"darkroom/batch/manifest"
	"darkroom/machine/meter"
	"darkroom/server/dispatch"
)

// metricSet is what the server measures, for Prometheus.
type metricSet struct {
	all        map[string]*metrics.Set // by the metric's name
	gpus       *meter.GPUs
	processors *meter.Processors
}

// families are the metrics with their types and help.
var families = []struct{ name, kind, help string }{
	{"requests_total", "counter", "Requests by API and status."},
	{"request_seconds", "histogram", "Time from a request's header to the end of its answer, by API."},
	{"pictures_total", "counter", "Pictures that were rendered, stored and written down, by device."},
	{"render_seconds", "histogram", "Time to render a picture; of several that are rendered at once, each one's share."},
	{"wait_seconds", "histogram", "Time from the beginning of a picture's rendering to its being in the store."},
	{"stage_seconds", "histogram", "Time that a picture spent in a stage: queue (accepted, waiting for a device), encode (opening the model, encoding the prompt), denoise, decode, save. What a worker of a queue does after the last step is all in decode."},
	{"iterations_per_second", "gauge", "Steps per second of the latest picture, by device."},
	{"failures_total", "counter", "Pictures that failed."},
	{"cancelled_total", "counter", "Pictures that were cancelled while they were rendered."},
	{"steps_total", "counter", "Steps of denoising of finished pictures, by device: their rate is it/s."},
	{"picture_bytes_total", "counter", "Bytes of pictures that were stored."},
	{"models_total", "counter", "Models that were opened and closed."},
	{"queue_pictures", "gauge", "Pictures that are waiting."},
	{"running_pictures", "gauge", "Pictures being rendered."},
	{"jobs", "gauge", "Jobs that are remembered."},
	{"subscribers", "gauge", "Clients that listen to events."},
	{"queue_workers", "gauge", "Workers of the queue that make pictures for this server (--queue)."},
	{"device_energy_joules_total", "counter", "Energy that a device has used since some time before the server's start: GPUs, and processor packages where the system lets it be read."},
	{"device_memory_used_bytes", "gauge", "Memory of a GPU in use, by whatever program."},
	{"device_memory_bytes", "gauge", "Memory of a GPU."},
}

func newMetrics() *metricSet {
	m := &metricSet{map[string]*metrics.Set{}, meter.OpenGPUs(), meter.OpenProcessors(meter.Powercap)}
	for _, f := range families {
		m.all[f.name] = metrics.NewSet()
	}
	return m
}

func (m *metricSet) counter(name, labels string) *metrics.Counter {
	return m.all[name].GetOrCreateCounter("darkroom_server_" + name + labels)
}

func (m *metricSet) histogram(name, labels string, start float64) *metrics.PrometheusHistogram {
	bounds := make([]float64, 16)
	for i := range bounds {
		bounds[i] = start * float64(int(1)<<i)
	}
	return m.all[name].GetOrCreatePrometheusHistogramExt("darkroom_server_"+name+labels, bounds)
}

// request counts a request. Paths hold names and ids, so only the API is a label.
func (m *metricSet) request(r *http.Request, status int, took time.Duration) {
	which := "page"
	for _, p := range []string{"/sdapi/", "/v1/images/", "/v1/"} {
		if strings.HasPrefix(r.URL.Path, p) {
			which = map[string]string{"/sdapi/": "sdapi", "/v1/images/": "openai", "/v1/": "own"}[p]
			break
		}
	}
	m.counter("requests_total", fmt.Sprintf(`{api=%q,status="%d"}`, which, status)).Inc()
	if !strings.HasSuffix(r.URL.Path, "/events") {
		m.histogram("request_seconds", fmt.Sprintf(`{api=%q}`, which), 0.001).Update(took.Seconds())
	}
}

func (m *metricSet) made(r manifest.Record) {
	device := fmt.Sprintf(`{device=%q}`, r.Device)
	m.counter("pictures_total", device).Inc()
	m.counter("steps_total", device).Add(max(r.Steps, 0))
	m.counter("picture_bytes_total", "").AddInt64(r.Bytes)
	m.histogram("render_seconds", device, 0.01).Update(r.Seconds)
	m.histogram("wait_seconds", "", 0.01).Update(r.Finished.Sub(r.Started).Seconds())
}

// ended takes in how long a picture spent in each stage.
func (m *metricSet) ended(e dispatch.Ended) {
	switch {
	case e.Cancel:
		m.counter("cancelled_total", "").Inc()
		return
	case e.Err != nil:
		m.counter("failures_total", "").Inc()
		return
	}
	for _, s := range e.Stages() {
		m.histogram("stage_seconds", fmt.Sprintf(`{stage=%q}`, s.Name), 0.001).Update(s.End.Sub(s.Start).Seconds())
	}
	if took := e.Denoised.Sub(e.Denoising).Seconds(); took > 0 && !e.Denoising.IsZero() {
		m.all["iterations_per_second"].GetOrCreateGauge(fmt.Sprintf("darkroom_server_iterations_per_second{device=%q}", e.Record.Device), nil).Set(float64(e.Record.Steps) / took)
	}
}

// readDevices reads what drivers tell.
func (m *metricSet) readDevices() {
	for _, r := range append(m.gpus.Read(), m.processors.Read()...) {
		labels := fmt.Sprintf(`{device=%q,name=%q}`, r.Device, r.Name)
		if r.Energy {
			m.all["device_energy_joules_total"].GetOrCreateFloatCounter("darkroom_server_device_energy_joules_total" + labels).Set(r.Joules)
		}
		if r.MemoryTotal > 0 {
			for name, v := range map[string]uint64{"device_memory_used_bytes": r.MemoryUsed, "device_memory_bytes": r.MemoryTotal} {
				m.all[name].GetOrCreateGauge("darkroom_server_"+name+labels, nil).Set(float64(v))
			}
		}
	}
}

func (m *metricSet) model(name string, opened bool) {
	m.counter("models_total", fmt.Sprintf(`{model=%q,event=%q}`, name, map[bool]string{true: "opened", false: "closed"}[opened])).Inc()
}

// write writes the measurements and those of the process in Prometheus' text format.
func (m *metricSet) write(w io.Writer, now dispatch.Status, workers int) {
	m.readDevices()
	gauges := map[string]int{"queue_pictures": now.Waiting, "running_pictures": now.Running, "jobs": now.Jobs, "subscribers": now.Subscribers, "queue_workers": workers}
	for _, f := range families {
		fmt.Fprintf(w, "# HELP darkroom_server_%s %s\n# TYPE darkroom_server_%s %s\n", f.name, f.help, f.name, f.kind)
		if n, ok := gauges[f.name]; ok {
			fmt.Fprintf(w, "darkroom_server_%s %d\n", f.name, n)
			continue
		}
		m.all[f.name].WritePrometheus(w)
	}
	metrics.WriteProcessMetrics(w)
}
