package pull

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Puller fetches.
type Puller struct {
	// Folder is where models are kept.
	Folder string
	// Endpoint is the hub's address, usually Hub; Token a user's there, "" for none. It is sent to that host alone.
	Endpoint, Token string
	// Client makes the connections; nil: one that honours the proxy variables.
	Client *http.Client
	// Progress, if not nil, is called with the bytes fetched so far and the total, -1 if that is unknown.
	Progress func(file string, done, total int64)
	// Note, if not nil, is called with each fault that is retried.
	Note func(text string)
	// FreeDisk returns how many bytes can be written to a folder; nil: no check.
	FreeDisk func(folder string) (bytes uint64, known bool)

	// Tries is how often one file is tried without a new byte; 0: 6. Stall is after how long without a byte a connection is
	// given up; 0: a minute. Wait is the first pause between tries, doubled each time; 0: a second.
	Tries int
	Stall time.Duration
	Wait  time.Duration
}

// NewClient is a client that honours HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = http.ProxyFromEnvironment
	t.ResponseHeaderTimeout = time.Minute
	t.DisableCompression = true // sizes and hashes are of the file
	return &http.Client{Transport: t}
}

// temporary is what may be gone in a while.
type temporary struct {
	err   error
	after time.Duration // that the server asks to wait; 0: it does not say
}

func (e *temporary) Error() string { return e.err.Error() }
func (e *temporary) Unwrap() error { return e.err }

// do sends one request. The token goes to the hub alone, whatever a redirection says, and nothing that began encrypted goes on
// in the clear. follow false gives the first answer that is not a redirect within the hub.
func (p *Puller) do(ctx context.Context, method, address string, header http.Header, follow bool) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "darkroom")
	if p.Token != "" && p.ours(req.URL) {
		req.Header.Set("Authorization", "Bearer "+p.Token)
	}
	client := *p.Client
	client.CheckRedirect = func(to *http.Request, via []*http.Request) error {
		switch {
		case len(via) >= 10:
			return fmt.Errorf("%s: more than ten redirects", printableURL(address))
		case via[0].URL.Scheme == "https" && to.URL.Scheme != "https":
			return fmt.Errorf("%s: it redirects to an address that is not encrypted", printableURL(address))
		case !follow && to.URL.Host != via[len(via)-1].URL.Host:
			return http.ErrUseLastResponse
		}
		if !p.ours(to.URL) {
			to.Header.Del("Authorization")
			to.Header.Del("Cookie")
			to.Header.Del("Referer")
		}
		return nil
	}
	r, err := client.Do(req)
	if err == nil {
		return r, nil
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = fmt.Errorf("%s: %w", printableURL(address), u.Err)
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil, fmt.Errorf("%w: is there a network? HTTPS_PROXY names a proxy, HF_ENDPOINT another hub", err)
	}
	var network net.Error
	if ctx.Err() == nil && (errors.As(err, &network) || errors.Is(err, net.ErrClosed)) || isCut(err) {
		return nil, &temporary{err: err}
	}
	return nil, err
}

// ours reports whether an address is the hub's own, for which the token is.
func (p *Puller) ours(u *url.URL) bool {
	hub, err := url.Parse(p.Endpoint)
	return err == nil && u.Scheme == hub.Scheme && u.Host == hub.Host
}

// again runs what may fail for a while, until it does not.
func (p *Puller) again(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		var t *temporary
		if !errors.As(err, &t) {
			return err
		}
		if n >= p.tries() {
			return err
		}
		if err := p.pause(ctx, n, t); err != nil {
			return err
		}
	}
}

// pause waits before try n+1, as long as the server asks, or longer each time.
func (p *Puller) pause(ctx context.Context, n int, t *temporary) error {
	wait := p.Wait
	if wait == 0 {
		wait = time.Second
	}
	wait <<= min(n-1, 5)
	wait = max(wait, t.after)
	if p.Note != nil {
		p.Note(fmt.Sprintf("%v; trying again in %v", t.err, wait.Round(time.Millisecond)))
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

func (p *Puller) tries() int {
	if p.Tries > 0 {
		return p.Tries
	}
	return 6
}

// retryAfter is what the server asks for, at most ten minutes.
func retryAfter(r *http.Response) time.Duration {
	const most = 10 * time.Minute
	text := r.Header.Get("Retry-After")
	if s, err := strconv.Atoi(text); err == nil && s >= 0 {
		return min(time.Duration(s)*time.Second, most)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), most)
	}
	return 0
}
