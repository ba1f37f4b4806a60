package server

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/batch/history"
	"darkroom/imagefile"
	"darkroom/server/wire"
)

// An enlarged picture is in the gallery and in the history, and in its file stands what it was made from.
func TestUpscale(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Folder: dir})
	network, err := os.ReadFile("../family/testdata/upscale/trunk.pth") // of random weights: it doubles
	if err != nil {
		t.Fatal(err)
	}
	models := filepath.Join(os.Getenv("DARKROOM_MODELS"), "upscale_models")
	if err := os.Mkdir(models, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(models, "trunk.pth"), network, 0o644); err != nil {
		t.Fatal(err)
	}
	var j wire.Job
	s.want(201, "POST", "/v1/jobs", object{"request": object{"prompt": "a red apple", "seed": 3, "steps": 2, "width": 64, "height": 64}}, &j)
	j = s.ended(j.ID)
	var large, again wire.Picture
	s.want(201, "POST", "/v1/upscale", object{"picture": "picture:" + j.Pictures[0].ID, "upscaler": "trunk"}, &large)
	if large.Width != 128 || large.Height != 128 || large.Prompt != "a red apple" || large.Seed != 3 || !large.Own {
		t.Errorf("%+v", large)
	}
	var list wire.PictureList
	if s.want(200, "GET", "/v1/pictures?query=apple", nil, &list); len(list.Pictures) != 2 || list.Pictures[0].ID != large.ID {
		t.Errorf("the gallery: %+v", list)
	}
	var data []byte
	s.want(200, "GET", large.URL, nil, &data)
	info, err := imagefile.InspectData(data)
	if err != nil || info.Recipe == nil || info.Recipe.Upscale != 2 || info.Recipe.Seed != 3 || info.Width != 128 {
		t.Errorf("%v, %+v", err, info.Recipe)
	}
	h, err := history.Open(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	found, err := h.Find(history.Query{Text: "apple"})
	if err != nil || len(found) != 2 || !strings.HasPrefix(found[0].Command(), "darkroom upscale /") || !strings.HasSuffix(found[0].Command(), ".png --upscaler trunk") {
		t.Errorf("%v, %+v", err, found)
	}
	if speed, err := h.Speed("", ""); err != nil || speed.Pictures != 1 {
		t.Errorf("the speed is measured of %d pictures, %v: an enlarged one says nothing of the model", speed.Pictures, err)
	}
	// The large picture can be enlarged again, and one of another program.
	s.want(201, "POST", "/v1/upscale", object{"picture": "picture:" + large.ID, "upscaler": "trunk"}, &again)
	if again.Width != 256 {
		t.Errorf("%+v", again)
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 20, 10))); err != nil {
		t.Fatal(err)
	}
	var u struct{ ID string }
	s.want(201, "POST", "/v1/files", picture.Bytes(), &u)
	s.want(201, "POST", "/v1/upscale", object{"picture": "upload:" + u.ID, "upscaler": "trunk"}, &again)
	if again.Width != 40 || again.Height != 20 || again.Prompt != "" {
		t.Errorf("%+v", again)
	}
	for _, bad := range []object{
		{"picture": "picture:" + large.ID, "upscaler": "none"}, {"picture": "picture:" + large.ID, "upscaler": "../trunk"}, {"picture": "/etc/passwd", "upscaler": "trunk"},
		{"picture": "upload:../../x", "upscaler": "trunk"}, {"picture": "picture:0123", "upscaler": "trunk"}, {},
	} {
		s.want(400, "POST", "/v1/upscale", bad, nil)
	}
}
