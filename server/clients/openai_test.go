package clients

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	openai "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"darkroom/imagefile"
	"darkroom/recipe"
	"darkroom/server"
)

const key = "a key for tests"

// serve starts a server on the embedded model, which asks for the key.
func serve(t *testing.T) (url string) {
	t.Helper()
	t.Setenv("DARKROOM_MODELS", t.TempDir())
	dir := t.TempDir()
	s, err := server.Open(server.Options{
		Folder: dir, History: filepath.Join(dir, "history.jsonl"), Log: slog.New(slog.DiscardHandler),
		Security: server.Security{Key: key, Basic: "ada:lovelace"},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	go s.Run(ctx)
	t.Cleanup(func() {
		cancel()
		h.CloseClientConnections()
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return h.URL
}

// recipeIn is the recipe of a picture in base64.
func recipeIn(t *testing.T, b64 string) recipe.Recipe {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		t.Fatal(err)
	}
	info, err := imagefile.InspectData(data)
	if err != nil || !info.Complete {
		t.Fatalf("%v, complete: %v", err, info.Complete)
	}
	return *info.Recipe
}

// square is a PNG, red, with a transparent right half.
func square(t *testing.T, side int, holed bool) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		for x := range side {
			c := color.NRGBA{200, 30, 30, 255}
			if holed && x >= side/2 {
				c.A = 0
			}
			img.Set(x, y, c)
		}
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func client(t *testing.T) openai.Client {
	return openai.NewClient(option.WithBaseURL(serve(t)+"/v1/"), option.WithAPIKey(key), option.WithMaxRetries(0))
}

// OpenAI's own client, with this server's settings as extra fields.
func TestOpenAIGenerate(t *testing.T) {
	c := client(t)
	models, err := c.Models.List(t.Context())
	if err != nil || len(models.Data) != 1 || models.Data[0].ID != "default" || models.Data[0].OwnedBy != "darkroom" {
		t.Errorf("models %+v, %v", models, err)
	}
	answer, err := c.Images.Generate(t.Context(), openai.ImageGenerateParams{
		Prompt: "a red apple", Model: "gpt-image-1", N: openai.Int(2), Size: "128x128", OutputFormat: "webp", OutputCompression: openai.Int(80), Quality: "low", Background: "auto", Moderation: "low",
	}, option.WithJSONSet("seed", 5), option.WithJSONSet("num_inference_steps", 3), option.WithJSONSet("guidance_scale", 2.0), option.WithJSONSet("negative_prompt", "blurry"), option.WithJSONSet("scheduler", "euler"))
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Data) != 2 || answer.OutputFormat != "webp" || answer.Size != "128x128" || answer.Usage.InputTokens != 3 || answer.Usage.TotalTokens != 3+2*64 || answer.Created == 0 {
		t.Errorf("%+v", answer)
	}
	for i, d := range answer.Data {
		r := recipeIn(t, d.B64JSON)
		if r.Seed != uint64(5+i) || r.Steps != 3 || r.CFG != 2 || r.Negative != "blurry" || r.Scheduler != "euler" || d.RevisedPrompt != "a red apple" {
			t.Errorf("picture %d: %+v", i, r)
		}
		var seed struct{ Seed uint64 }
		if err := json.Unmarshal([]byte(d.RawJSON()), &seed); err != nil || seed.Seed != r.Seed {
			t.Errorf("the answer tells the seed %d, %v", seed.Seed, err)
		}
	}
	answer, err = c.Images.Generate(t.Context(), openai.ImageGenerateParams{Prompt: "a pear", Size: "auto", ResponseFormat: "url"}, option.WithJSONSet("steps", 1))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get(answer.Data[0].URL) // without the key
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "image/png" {
		t.Errorf("%s: %d %v", answer.Data[0].URL, response.StatusCode, response.Header)
	}
}

func TestOpenAIStream(t *testing.T) {
	c := client(t)
	stream := c.Images.GenerateStreaming(t.Context(), openai.ImageGenerateParams{Prompt: "a red apple", PartialImages: openai.Int(2)}, option.WithJSONSet("steps", 12), option.WithJSONSet("seed", 3))
	var kinds []string
	var last openai.ImageGenCompletedEvent
	for stream.Next() {
		e := stream.Current()
		kinds = append(kinds, e.Type)
		if e.Type == "image_generation.partial_image" {
			p := e.AsImageGenerationPartialImage()
			data, err := base64.StdEncoding.DecodeString(p.B64JSON)
			if img, loadErr := imagefile.LoadData(data); err != nil || loadErr != nil || img.Bounds().Dx() != 256 || int(p.PartialImageIndex) != len(kinds)-1 {
				t.Errorf("partial image %d: %v, %v", p.PartialImageIndex, err, loadErr)
			}
		} else {
			last = e.AsImageGenerationCompleted()
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"image_generation.partial_image", "image_generation.partial_image", "image_generation.completed"}; !slices.Equal(kinds, want) {
		t.Errorf("events %v", kinds)
	}
	if r := recipeIn(t, last.B64JSON); r.Seed != 3 || r.Steps != 12 || last.Size != "256x256" || last.Usage.TotalTokens != 3+256 {
		t.Errorf("%+v, %+v", r, last)
	}
	// The same picture without a stream is the one that is there.
	again, err := c.Images.Generate(t.Context(), openai.ImageGenerateParams{Prompt: "a red apple"}, option.WithJSONSet("steps", 12), option.WithJSONSet("seed", 3))
	if err != nil || again.Data[0].B64JSON != last.B64JSON {
		t.Errorf("the same request gives another picture, %v", err)
	}
}

// told is what the server said.
func told(err error) string {
	var e *openai.Error
	if errors.As(err, &e) {
		return e.RawJSON()
	}
	return err.Error()
}

// file is a picture as the client sends it.
func file(data []byte) openai.ImageEditParamsImageUnion {
	return openai.ImageEditParamsImageUnion{OfFileArray: nil, OfFile: openai.File(bytes.NewReader(data), "picture.png", "image/png")}
}

func TestOpenAIEdit(t *testing.T) {
	c := client(t)
	for name, p := range map[string]openai.ImageEditParams{
		"mask":        {Image: file(square(t, 128, false)), Mask: openai.File(bytes.NewReader(square(t, 128, true)), "mask.png", "image/png")},
		"transparent": {Image: file(square(t, 128, true))},
		"array": {Image: openai.ImageEditParamsImageUnion{OfFileArray: []io.Reader{bytes.NewReader(square(t, 128, false))}},
			Mask: bytes.NewReader(square(t, 128, true)), Model: "gpt-image-1", InputFidelity: "high"},
	} {
		p.Prompt, p.N, p.Size = "a green pear", openai.Int(1), "auto"
		p.SetExtraFields(map[string]any{"seed": 9, "steps": 4})
		answer, err := c.Images.Edit(t.Context(), p)
		if err != nil {
			t.Errorf("%s: %v", name, told(err))
			continue
		}
		data, err := base64.StdEncoding.DecodeString(answer.Data[0].B64JSON)
		if err != nil {
			t.Fatal(err)
		}
		img, err := imagefile.LoadData(data)
		if err != nil {
			t.Fatal(err)
		}
		// The left half is kept to the pixel, the right half is painted.
		if got := img.NRGBAAt(10, 64); got != (color.NRGBA{200, 30, 30, 255}) {
			t.Errorf("%s: a pixel that the mask keeps is %v", name, got)
		}
		if got := img.NRGBAAt(120, 64); got == (color.NRGBA{200, 30, 30, 255}) {
			t.Errorf("%s: a pixel that the mask paints is as it was", name)
		}
	}
	//nolint:staticcheck // clients still call it
	answer, err := c.Images.NewVariation(t.Context(), openai.ImageNewVariationParams{Image: bytes.NewReader(square(t, 128, false)), N: openai.Int(2)})
	if err != nil || len(answer.Data) != 2 {
		t.Fatalf("%+v, %v", answer, err)
	}
	if r := recipeIn(t, answer.Data[0].B64JSON); r.Init == "" || r.Prompt != "" {
		t.Errorf("%+v", r)
	}
}

func TestOpenAIErrors(t *testing.T) {
	c := client(t)
	for _, x := range []struct {
		p      openai.ImageGenerateParams
		o      []option.RequestOption
		status int
		param  string
	}{
		{openai.ImageGenerateParams{Prompt: "x", Size: "100x100"}, nil, 400, ""},
		{openai.ImageGenerateParams{Prompt: "x", Size: "huge"}, nil, 400, "size"},
		{openai.ImageGenerateParams{Prompt: "x", N: openai.Int(11)}, nil, 400, "n"},
		{openai.ImageGenerateParams{Prompt: "x", Model: "nothing like it"}, nil, 404, "model"},
		{openai.ImageGenerateParams{Prompt: "x", Background: "transparent"}, nil, 400, "background"},
		{openai.ImageGenerateParams{Prompt: ""}, nil, 400, "prompt"},
		{openai.ImageGenerateParams{Prompt: "x"}, []option.RequestOption{option.WithJSONSet("steps", -3)}, 400, "steps"},
		{openai.ImageGenerateParams{Prompt: "x"}, []option.RequestOption{option.WithJSONSet("scheduler", "nothing")}, 400, ""},
		{openai.ImageGenerateParams{Prompt: "x"}, []option.RequestOption{option.WithJSONSet("seed", "abc")}, 400, "seed"},
		{openai.ImageGenerateParams{Prompt: "x"}, []option.RequestOption{option.WithAPIKey("wrong")}, 401, ""},
	} {
		_, err := c.Images.Generate(t.Context(), x.p, x.o...)
		var e *openai.Error
		if !errors.As(err, &e) || e.StatusCode != x.status || e.Param != x.param || e.Message == "" || e.Type == "" {
			t.Errorf("%+v: %v", x.p, err)
		}
	}
	_, err := c.Images.Edit(t.Context(), openai.ImageEditParams{Prompt: "x", Image: openai.ImageEditParamsImageUnion{OfFile: strings.NewReader("no picture")}})
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != 400 || e.Param != "image" {
		t.Errorf("%v", err)
	}
}
