package server

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

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
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, id))
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
			if p := r.URL.Path; r.Method == http.MethodGet && out.status < 400 && (p == "/metrics" || p == "/healthz" || p == "/readyz" || strings.HasSuffix(p, "/progress")) {
				level = slog.LevelDebug
			}
			s.o.Log.Log(r.Context(), level, "request", "request", id, "method", r.Method, "path", r.URL.Path, "status", out.status, "bytes", out.bytes, "seconds", took.Seconds(), "from", r.RemoteAddr)
		}()
		next.ServeHTTP(out, r)
	})
}
