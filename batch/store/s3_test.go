package store

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// newS3 is a bucket on a server within the test, which refuses everything while refuse is set.
func newS3(t *testing.T, prefix string) (s *S3, refuse *atomic.Bool) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("pictures"); err != nil {
		t.Fatal(err)
	}
	refuse = &atomic.Bool{}
	inner := gofakes3.New(backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse.Load() {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s, err := OpenS3(context.Background(), S3Options{URL: "s3://pictures" + prefix, Endpoint: server.URL, Region: "us-east-1", Key: "key", Secret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return s, refuse
}

func TestS3(t *testing.T) {
	s, refuse := newS3(t, "/a/prefix/")
	testStore(t, s)
	if got := s.String(); got != "s3://pictures/a/prefix" {
		t.Errorf("its name is %s", got)
	}
	refuse.Store(true)
	if err := s.Put(t.Context(), "x.png", []byte("abc")); err == nil || !strings.HasPrefix(err.Error(), "cannot read x.png in s3://pictures/a/prefix: ") {
		t.Errorf("a server that refuses: %v", err)
	}
	refuse.Store(false)
	if err := s.Put(t.Context(), "x.png", []byte("abc")); err != nil {
		t.Error(err)
	}
	_, err := OpenS3(t.Context(), S3Options{URL: "s3://other", Endpoint: "http://" + s.client.EndpointURL().Host, Region: "us-east-1", Key: "key", Secret: "secret"})
	if err == nil || err.Error() != `s3://other: there is no bucket "other"` {
		t.Error(err)
	}
}
