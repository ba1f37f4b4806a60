package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"darkroom/server/trace"
	"darkroom/server/web"
	"darkroom/server/wire"
)

type requestKey struct{}

// requestID is the id of a request, which is in the log and in its answer.
func requestID(r *http.Request) string {
	id, _ := r.Context().Value(requestKey{}).(string)
	return id
}

// recorder remembers an answer's status and size. It hides nothing: http.ResponseController unwraps it.
type recorder struct {
	http.ResponseWriter
	begun  time.Time
	status int
	bytes  int64
	timed  bool // X-Process-Time is wanted
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		if w.status = status; w.timed {
			w.Header().Set("X-Process-Time", strconv.FormatFloat(time.Since(w.begun).Seconds(), 'f', 4, 64))
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// logged gives each request an id and a line in the log, and turns a panic into an error of the request alone.
func logged(s *Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if len(id) > 64 || strings.ContainsFunc(id, func(c rune) bool { return c < '!' || c > '~' }) || id == "" {
			id = strings.ToLower(rand.Text()[:12])
		}
		w.Header().Set("X-Request-Id", id)
		ctx := context.WithValue(r.Context(), requestKey{}, id)
		quiet := r.Method == http.MethodGet && (r.URL.Path == "/metrics" || r.URL.Path == "/healthz" || r.URL.Path == "/readyz" || strings.HasSuffix(r.URL.Path, "/progress"))
		var parent, span trace.Context
		if s.o.Traces != nil && !quiet {
			parent, _ = trace.Parse(r.Header.Get("Traceparent"))
			span = parent.Child()
			ctx = trace.With(ctx, span)
		}
		r = r.WithContext(ctx)
		out := &recorder{ResponseWriter: w, begun: time.Now(), timed: strings.HasPrefix(r.URL.Path, "/sdapi/")}
		defer func() {
			if p := recover(); p != nil && p != any(http.ErrAbortHandler) { //nolint:errorlint // the server compares it the same way
				s.o.Log.Error("internal error: please report it", "request", id, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				if out.status == 0 {
					web.Error(out, &wire.Error{Status: http.StatusInternalServerError, Type: "server_error", Message: "internal error: see the log"})
				}
			}
			took := time.Since(out.begun)
			s.metrics.request(r, out.status, took)
			level := slog.LevelInfo
			if quiet && out.status < 400 {
				level = slog.LevelDebug
			}
			about := []any{"request", id, "method", r.Method, "path", r.URL.Path, "status", out.status, "bytes", out.bytes, "seconds", took.Seconds(), "from", r.RemoteAddr}
			if span.Valid() {
				about = append(about, "trace", hex.EncodeToString(span.Trace[:]))
				s.o.Traces.Add(requestSpan(r, span, parent, out, took))
			}
			s.o.Log.Log(r.Context(), level, "request", about...)
		}()
		next.ServeHTTP(out, r)
	})
}

// requestSpan is the span of a request that is answered, with OpenTelemetry's names of attributes.
func requestSpan(r *http.Request, c, parent trace.Context, out *recorder, took time.Duration) trace.Span {
	_, route, _ := strings.Cut(r.Pattern, " ")
	s := trace.Span{
		Context: c, Parent: parent.Span, Name: strings.TrimSpace(r.Method + " " + route), Server: true, Start: out.begun, End: out.begun.Add(took),
		Attributes: map[string]any{"http.request.method": r.Method, "url.path": r.URL.Path, "http.route": route, "http.response.status_code": out.status},
	}
	if out.status >= 500 {
		s.Error = http.StatusText(out.status)
	}
	return s
}
