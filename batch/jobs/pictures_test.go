package jobs

import (
	"encoding/json"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// photos makes pictures of one pixel in folders below a new one.
func photos(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for i, name := range names {
		paint(t, filepath.Join(dir, name), i+1)
	}
	return dir
}

func paint(t *testing.T, path string, width int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, image.NewGray(image.Rect(0, 0, width, 1))); err != nil {
		t.Fatal(err)
	}
}

func parsePictures(t *testing.T, text string) (*List, error) {
	t.Helper()
	return Parse("f", []byte(text), nil, Options{Notation: YAML, Pictures: true})
}

// Folders and patterns stand for the pictures in them; those of several fields belong together by name.
func TestPicturesOfFolders(t *testing.T) {
	dir := photos(t, "in/a.png", "in/b.PNG", "in/c.png", "masks/c.png", "masks/b.png", "masks/a.png", "masks/d.png", "lines/a.png", "lines/b.png", "lines/c.png")
	for _, name := range []string{"in/notes.txt", "in/.hidden.png"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string][]string{
		"init: D/in":                                         {"in/a.png", "in/b.PNG", "in/c.png"},
		"init: 'D/in/*.png'":                                 {"in/a.png", "in/c.png"},
		"init: [D/in/b.PNG, D/masks]":                        {"in/b.PNG", "masks/a.png", "masks/b.png", "masks/c.png", "masks/d.png"},
		"{init: D/in, mask: D/masks, strength: 0.5}":         {"in/a.png+masks/a.png", "in/b.PNG+masks/b.png", "in/c.png+masks/c.png"},
		"{init: D/in/a.png, mask: D/masks}":                  {"in/a.png+masks/a.png", "in/a.png+masks/b.png", "in/a.png+masks/c.png", "in/a.png+masks/d.png"},
		"{init: D/in/a.png, seed: 1..2}":                     {"in/a.png", "in/a.png"},
		"{init: D/in, seed: 1..2}":                           {"in/a.png", "in/a.png", "in/b.PNG", "in/b.PNG", "in/c.png", "in/c.png"},
		"{init: D/in, seed: 1..3, sweep: zip}":               {"in/a.png", "in/b.PNG", "in/c.png"},
		"control: 'canny=D/lines:scale=0.5'":                 {"canny=lines/a.png:scale=0.5", "canny=lines/b.png:scale=0.5", "canny=lines/c.png:scale=0.5"},
		"control: 'canny=D/lines/?.png;depth=D/masks/d.png'": {"canny=lines/a.png;depth=masks/d.png", "canny=lines/b.png;depth=masks/d.png", "canny=lines/c.png;depth=masks/d.png"},
		"control: 'canny=D/lines;depth=D/masks:end=0.5'":     {"canny=lines/a.png;depth=masks/a.png:end=0.5", "canny=lines/b.png;depth=masks/b.png:end=0.5", "canny=lines/c.png;depth=masks/c.png:end=0.5"},
		"{init: D/in, control: 'canny=D/lines'}":             {"in/a.png+canny=lines/a.png", "in/b.PNG+canny=lines/b.png", "in/c.png+canny=lines/c.png"},
		"{init: D/in/a.png, mask: alpha}":                    {"in/a.png+alpha"},
		"control: 'D/lines:pre=canny'":                       {"lines/a.png:pre=canny", "lines/b.png:pre=canny", "lines/c.png:pre=canny"},
		"{init: D/in, control: D/lines}":                     {"in/a.png+lines/a.png", "in/b.PNG+lines/b.png", "in/c.png+lines/c.png"},
	} {
		if !strings.HasPrefix(text, "{") {
			text = "{" + text + "}"
		}
		l, err := parsePictures(t, "defaults: {prompt: x}\njobs:\n- "+strings.ReplaceAll(text, "D/", dir+"/"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, m := range l.Images {
			q := m.Request
			s := q.Init
			for _, more := range []string{q.Mask, q.Control} {
				if more != "" {
					s = strings.TrimPrefix(s+"+"+more, "+")
				}
			}
			got = append(got, strings.ReplaceAll(s, dir+"/", ""))
			if len(q.Inputs) != 64 {
				t.Errorf("%s: the request's inputs are %q", text, q.Inputs)
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s:\ngot  %q\nwant %q", text, got, want)
		}
	}
	if err := os.Remove(filepath.Join(dir, "lines/b.png")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "in/words.png"), []byte("words"), 0o666); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"init: D/none.png":                          "none.png: no such file",
		"init: 'D/lines/*.gif'":                     "there are no pictures in",
		"init: 'D/in/['":                            "syntax error",
		"{init: D/masks, control: 'canny=D/lines'}": `control: there is no picture called "b", as there is for init`,
		"control: 'a=D/masks;b=D/lines'":            `b: there is no picture called "b"`,
		"init: D/in":                                "words.png: it is not a picture",
		"control: 'canny='":                         "MODEL=IMAGE is needed",
		"control: 'D/none'":                         "none: no such file",
	} {
		if !strings.HasPrefix(text, "{") {
			text = "{" + text + "}"
		}
		if _, err := parsePictures(t, "defaults: {prompt: x}\njobs:\n- "+strings.ReplaceAll(text, "D/", dir+"/")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// A request is another one when its picture is: whatever the file's name and time.
func TestChangedPicturesAreOtherRequests(t *testing.T) {
	dir := photos(t, "a.png", "b.png")
	text := "- {prompt: x, init: " + filepath.Join(dir, "a.png") + ", mask: " + filepath.Join(dir, "b.png") + ", name: '{init}-{seed}'}"
	hash := func() string {
		l, err := parsePictures(t, text)
		if err != nil {
			t.Fatal(err)
		}
		m := l.Images[0]
		if m.File != "a-0.png" {
			t.Errorf("the file is called %s", m.File)
		}
		data, err := json.Marshal(m.Request)
		if err != nil {
			t.Fatal(err)
		}
		var back Request
		if err := json.Unmarshal(data, &back); err != nil || back.Hash() != m.Hash {
			t.Errorf("%s comes back as another request: %v", data, err)
		}
		return m.Hash
	}
	before := hash()
	if hash() != before {
		t.Error("the same request has another hash")
	}
	paint(t, filepath.Join(dir, "b.png"), 7)
	if hash() == before {
		t.Error("another mask is the same request")
	}
	var q Request
	if err := json.Unmarshal([]byte(`{"prompt":"x","seed":1,"inputs":"../x"}`), &q); err == nil {
		t.Error("inputs that are not hashes are accepted")
	}
}

// Jobs that come over a network look at no file.
func TestPicturesElsewhere(t *testing.T) {
	l, err := Parse("f", []byte("- {prompt: x, init: 'upload:1', control: 'a=/etc/*'}"), nil, Options{Notation: YAML})
	if err != nil || len(l.Images) != 1 || l.Images[0].Request.Inputs != "" || l.Images[0].Request.Control != "a=/etc/*" {
		t.Errorf("%+v, %v", l, err)
	}
}

// A control network, an image encoder or a motion module that changed makes another request; one that is not there is no mistake yet.
func TestChangedNetworksAreOtherRequests(t *testing.T) {
	dir := photos(t, "a.png")
	net, folder := filepath.Join(dir, "net.safetensors"), filepath.Join(dir, "module")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	write(net, "one")
	write(filepath.Join(folder, "model.safetensors"), "one")
	write(filepath.Join(folder, "config.json"), "{}")
	inputs := func(text string) string {
		l, err := parsePictures(t, "- {prompt: x, "+text+"}")
		if err != nil {
			t.Fatal(err)
		}
		return l.Images[0].Request.Inputs
	}
	control := "control: '" + net + "=" + filepath.Join(dir, "a.png") + "'"
	motion := "motion: '" + folder + ":frames=4'"
	for text, change := range map[string]func(){
		control:                    func() { write(net, "other") },
		motion:                     func() { write(filepath.Join(folder, "model.safetensors"), "another") },
		"motion: '" + folder + "'": func() { write(filepath.Join(folder, "config.json"), "{ }") },
	} {
		was := inputs(text)
		if len(was) != 64 || inputs(text) != was {
			t.Errorf("%s: inputs %q, then %q", text, was, inputs(text))
		}
		if change(); inputs(text) == was {
			t.Errorf("%s: a changed file is the same request", text)
		}
	}
	if inputs("motion: none-of-that-name") != "" {
		t.Error("a module that is not there has a hash")
	}
}
