package page_test

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"

	"darkroom/server"
	"darkroom/server/page"
)

func init() { page.RealServer = realServer }

// realServer is a server on the embedded model, with pictures in folder.
func realServer(t *testing.T, folder, reports, key string) (handler http.Handler, stop func()) {
	t.Helper()
	s, err := server.Open(server.Options{Folder: folder, History: filepath.Join(folder, "history.jsonl"), Reports: reports, Security: server.Security{Key: key}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	return s.Handler(), func() {
		cancel()
		<-done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
