package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"darkroom/server/api"
	"darkroom/server/web"
	"darkroom/server/wire"
)

// Security says who may use the server.
type Security struct {
	Key   string   // of Authorization: Bearer
	Basic string   // USER:PASSWORD of HTTP Basic
	CORS  []string // origins of pages that may use the server from browsers; * is any
	Hosts []string // names that requests may call this server by, beside addresses and this machine's own names
	// ClientCerts says that the listener asks for certificates of clients.
	ClientCerts bool
	Rate        float64 // requests a second of one client; 0: any
	secret      []byte  // of signatures
}

// signature is the query's parameter that opens a picture's file without a key.
const signature = "signature"

// open reports whether anybody who reaches the server may use it.
func (s *Security) open() bool { return s.Key == "" && s.Basic == "" && !s.ClientCerts }

func (s *Security) sign(path string) string {
	m := hmac.New(sha256.New, s.secret)
	m.Write([]byte(path))
	return hex.EncodeToString(m.Sum(nil)[:16])
}

// wrap puts what every request passes before the handlers: its id and log line, the checks of host and origin, the rate, the
// credentials.
func (s *Security) wrap(server *Server, next http.Handler) (http.Handler, error) {
	s.secret = make([]byte, 32)
	if s.Key+s.Basic == "" {
		_, _ = rand.Read(s.secret) // which cannot fail
	} else {
		sum := sha256.Sum256([]byte("darkroom links\x00" + s.Key + "\x00" + s.Basic)) // links outlive a restart
		copy(s.secret, sum[:])
	}
	csrf := http.NewCrossOriginProtection()
	for _, o := range s.CORS {
		if o == "*" {
			continue
		}
		if err := csrf.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("--cors %.80q: it must be an origin such as https://example.org: %w", o, err)
		}
	}
	if slices.Contains(s.CORS, "*") {
		csrf.AddInsecureBypassPattern("/")
	}
	h := s.authenticated(next)
	h = s.limited(h)
	h = s.sameOrigin(csrf, h)
	h = s.knownHost(h)
	return logged(server, h), nil
}

// knownHost refuses requests that call the server by a name which is not its own: a web page elsewhere may have had its name
// point to this machine (DNS rebinding). Where credentials are asked for, such a page has none.
func (s *Security) knownHost(next http.Handler) http.Handler {
	own, _ := os.Hostname()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
		known := s.Key != "" || s.Basic != "" || net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
			host == strings.ToLower(own) && own != "" || slices.ContainsFunc(s.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
		if !known {
			web.Error(w, &wire.Error{Status: http.StatusMisdirectedRequest, Type: "invalid_request_error", Code: "unknown_host",
				Message: fmt.Sprintf("this server does not go by the name %.80q: allow it with --host", host)})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses what pages of other origins send through a browser, and tells browsers which origins are let in.
func (s *Security) sameOrigin(csrf *http.CrossOriginProtection, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		allowed := origin != "" && (slices.Contains(s.CORS, origin) || slices.Contains(s.CORS, "*"))
		h := w.Header()
		h.Add("Vary", "Origin")
		if allowed {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", "X-Request-Id, X-Seed, X-Job, X-Process-Time, Location, Retry-After")
		}
		if r.Method == http.MethodOptions {
			if allowed {
				h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE, OPTIONS")
				h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, X-Api-Key, X-Request-Id, Traceparent, Tracestate, X-Stainless-Retry-Count, X-Stainless-Lang, X-Stainless-Package-Version, X-Stainless-OS, X-Stainless-Arch, X-Stainless-Runtime, X-Stainless-Runtime-Version, X-Stainless-Timeout, OpenAI-Organization, OpenAI-Project")
				h.Set("Access-Control-Max-Age", "600")
			}
			h.Set("Allow", "GET, HEAD, POST, PATCH, DELETE, OPTIONS")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if err := csrf.Check(r); err != nil {
			web.Error(w, &wire.Error{Status: http.StatusForbidden, Type: "invalid_request_error", Code: "cross_origin",
				Message: fmt.Sprintf("a page of another origin (%.80q) sent this: allow it with --cors", origin)})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// limited refuses clients that ask too often.
func (s *Security) limited(next http.Handler) http.Handler {
	if s.Rate <= 0 {
		return next
	}
	var mu sync.Mutex
	type bucket struct {
		*rate.Limiter
		used time.Time
	}
	buckets := map[string]*bucket{}
	take := func(client string) bool {
		mu.Lock()
		defer mu.Unlock()
		if len(buckets) > 10_000 {
			for name, b := range buckets {
				if time.Since(b.used) > time.Minute {
					delete(buckets, name)
				}
			}
			if len(buckets) > 10_000 {
				clear(buckets)
			}
		}
		b := buckets[client]
		if b == nil {
			b = &bucket{Limiter: rate.NewLimiter(rate.Limit(s.Rate), max(int(4*s.Rate), 4))}
			buckets[client] = b
		}
		b.used = time.Now()
		return b.Allow()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		if !public(r) && !take(host) {
			web.Error(w, &wire.Error{Status: http.StatusTooManyRequests, Type: "rate_limit_error", Code: "rate_limit_exceeded", Message: "too many requests: wait a moment (--rate)"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// public are places that hold nothing of anybody's: the page asks for the key by itself.
func public(r *http.Request) bool {
	p := r.URL.Path
	return p == "/" || strings.HasPrefix(p, "/static/") || p == "/healthz" || p == "/readyz" || p == "/openapi.json" || p == "/favicon.ico" || p == "/manifest.webmanifest" || p == "/sw.js"
}

// authenticated asks for credentials, where there are any.
func (s *Security) authenticated(next http.Handler) http.Handler {
	if s.Key == "" && s.Basic == "" {
		return next // a listener that asks for certificates has seen them
	}
	same := func(a, b string) bool {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b)) // of one length
		return b != "" && subtle.ConstantTimeCompare(x[:], y[:]) == 1
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		user, password, basic := r.BasicAuth()
		ok := public(r) || strings.EqualFold(scheme, "Bearer") && same(strings.TrimSpace(token), s.Key) || same(r.Header.Get("X-Api-Key"), s.Key) ||
			basic && same(user+":"+password, s.Basic) || basic && same(password, s.Key) || s.signed(r) || s.passed(r)
		if !ok {
			if s.Basic != "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="darkroom"`)
			} else {
				w.Header().Set("WWW-Authenticate", `Bearer realm="darkroom"`)
			}
			web.Error(w, &wire.Error{Status: http.StatusUnauthorized, Type: "invalid_request_error", Code: "invalid_api_key", Message: "the key is missing or wrong: send Authorization: Bearer KEY (--api-key) or Basic credentials (--api-auth)"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// reportTime is how long the path of a report is good.
const reportTime = 24 * time.Hour

// reportPath is the path of a report, with a pass in it where there are credentials: a frame cannot send any.
func (s *Security) reportPath(name string) string {
	path := "/v1/reports/" + url.PathEscape(name) + "/"
	if s.open() {
		return path
	}
	until := strconv.FormatInt(time.Now().Add(reportTime).Unix(), 36)
	return path + api.ReportPass + until + "-" + s.sign("report\x00"+name+"\x00"+until) + "/"
}

// passed reports whether the request is for a file of a report, with a pass for this report that is still good.
func (s *Security) passed(r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/reports/")
	name, rest, _ := strings.Cut(rest, "/")
	pass, _, inside := strings.Cut(rest, "/")
	pass, marked := strings.CutPrefix(pass, api.ReportPass)
	until, given, _ := strings.Cut(pass, "-")
	if !ok || !marked || !inside || r.Method != http.MethodGet {
		return false
	}
	end, err := strconv.ParseInt(until, 36, 64)
	return subtle.ConstantTimeCompare([]byte(given), []byte(s.sign("report\x00"+name+"\x00"+until))) == 1 && err == nil && time.Now().Unix() < end
}

// signed reports whether the request has a signature for the file that it asks for.
func (s *Security) signed(r *http.Request) bool {
	given := r.URL.Query().Get(signature)
	if given == "" || r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/v1/pictures/") || !strings.HasSuffix(r.URL.Path, "/file") {
		return false
	}
	want := s.sign(strings.TrimPrefix(r.URL.Path, "/"))
	return subtle.ConstantTimeCompare([]byte(given), []byte(want)) == 1
}

// Loopback reports whether an address is reached from this machine alone.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// CheckOrigins says what is wrong with a list of origins.
func CheckOrigins(list []string) error {
	for _, o := range list {
		u, err := url.Parse(o)
		if o != "*" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "") {
			return fmt.Errorf("%.80q: it must be an origin such as https://example.org, or *", o)
		}
	}
	return nil
}
