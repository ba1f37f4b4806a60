package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"strings"
	"testing"

	"darkroom/imagefile"
)

// What a picture's file says beside its pixels (where it was taken, by whom, with which words) is in no file that is made of it; that a
// model made it is in all.
func TestInitsMetadataDoNotLeak(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "- prompt: a\n")
	img := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	for i := range 64 * 64 {
		img.SetNRGBA(i%64, i/64, color.NRGBA{uint8(i), uint8(i / 16), 90, 255})
	}
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, img, nil); err != nil {
		t.Fatal(err)
	}
	segment := func(marker byte, text string) []byte {
		return append([]byte{0xff, marker, byte((len(text) + 2) >> 8), byte(len(text) + 2)}, text...)
	}
	file := append([]byte{}, buf.Bytes()[:2]...)
	file = append(file, segment(0xe1, "Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x0e\x00\x02\x00\x00\x00\x0b\x00\x00\x00\x1a\x00\x00\x00\x00SECRETexif\x00")...)
	file = append(file, segment(0xe1, "http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta xmlns:x='adobe:ns:meta/'>SECRETxmp</x:xmpmeta>")...)
	file = append(file, segment(0xed, "Photoshop 3.0\x00SECRETiptc")...)
	file = append(file, segment(0xe2, "ICC_PROFILE\x00\x01\x01SECRETicc")...)
	file = append(file, segment(0xfe, "SECRETcomment")...)
	save(t, "in.jpg", append(file, buf.Bytes()[2:]...))
	for _, args := range [][]string{
		{"generate", "a", "--init", "in.jpg", "-o", "x.png"}, {"generate", "a", "--init", "in.jpg", "-o", "x.jpg"}, {"generate", "a", "--init", "in.jpg", "-o", "x.webp"},
		{"generate", "a", "--init", "in.jpg", "--outpaint", "left=32", "-o", "wide.png"},
	} {
		if code, _, errs := command(t, "", append(args, "--model", model, "--steps", "2", "--seed", "1", "-q")...); code != 0 {
			t.Fatal(errs)
		}
		out := args[len(args)-1]
		if strings.Contains(string(read(t, out)), "SECRET") {
			t.Errorf("%s: what in.jpg says is in %s", args, out)
		}
		code, text, _ := command(t, "", "inspect", out)
		if code != 0 || !strings.Contains(text, "digitalsourcetype/compositeWithTrainedAlgorithmicMedia") {
			t.Errorf("inspect %s: %s", out, text)
		}
	}
}

// A marked picture is found out by inspect, also when another program has compressed it, and its recipe makes it again; a picture
// without the mark is not.
func TestWatermark(t *testing.T) {
	model := inFolder(t, "jobs.yaml", "- prompt: a\n")
	run := func(args ...string) string {
		t.Helper()
		code, out, errs := command(t, "", args...)
		if code != 0 {
			t.Fatalf("%q: exit code %d, %s", args, code, errs)
		}
		return out
	}
	run("generate", "a red apple", "--steps", "4", "--seed", "1", "--watermark", "-o", "marked.png", "-q")
	run("generate", "a red apple", "--steps", "4", "--seed", "1", "-o", "plain.png", "-q")
	run("generate", "--from", "marked.png", "-o", "again.png", "-q")
	if string(read(t, "marked.png")) != string(read(t, "again.png")) {
		t.Error("the recipe makes another file")
	}
	p, err := imagefile.Load("marked.png")
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, p.Pixels, &jpeg.Options{Quality: 75}); err != nil {
		t.Fatal(err)
	}
	save(t, "sent.jpg", buf.Bytes())
	for file, want := range map[string]bool{"marked.png": true, "sent.jpg": true, "plain.png": false} {
		if got := strings.Contains(run("inspect", file), "found: machine-made"); got != want {
			t.Errorf("%s: a mark was found: %v", file, got)
		}
	}
	if !inspected(t, "marked.png").Watermark || inspected(t, "plain.png").Watermark {
		t.Error("the recipes do not say which picture is marked")
	}
	code, _, errs := command(t, "", "generate", "a", "--model", model, "--steps", "1", "--watermark", "-o", "small.png", "-q")
	if code != 0 || !strings.Contains(errs, fmt.Sprintf("smaller than %d pixels", imagefile.MinMarked)) {
		t.Errorf("a picture of 32 pixels: exit code %d, %s", code, errs)
	}
}
