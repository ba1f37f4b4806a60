package imagefile

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"darkroom/recipe"

	"github.com/google/go-cmp/cmp"
)

func picture(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = byte(i * 7 / 3)
		if i%4 == 3 {
			img.Pix[i] = 0xff
		}
	}
	return img
}

func sample(prompt string) recipe.Recipe {
	return recipe.Recipe{Version: "0.1.0", Numerics: "1", Prompt: prompt, Negative: "a <b> & \"c\"\n\ttab", Seed: math.MaxUint64, Noise: "torch-cpu",
		Width: 21, Height: 13, Steps: 4, Scheduler: "euler-a", Eta: 1, CFG: 7, Model: "m", ModelHash: strings.Repeat("ab", 32),
		Result: recipe.Result{Pixels: strings.Repeat("0", 64)}}
}

// Prompts that some writer or reader would trip over.
var prompts = []string{
	"a red apple",
	"café",
	"猫 😀 \u200d שלום",
	"control \x01 \x1b \x7f, not in XML: \ufffe \uffff, lines\r\nand\u2028separators",
	"",
	"a\nNegative prompt: trap\nSteps: 1, Sampler: Euler, CFG scale: 1, Seed: 1, Size: 1x1",
	strings.Repeat("long ", 4000),
	strings.Repeat("猫 longer ", 20000), // more than a JPEG's segment holds
}

func encoded(t testing.TB, img *image.NRGBA, r recipe.Recipe, o Options) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Encode(&buf, img, r, o); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestRecipeThereAndBack(t *testing.T) {
	for _, o := range []Options{{Format: PNG}, {Format: JPEG}, {Format: JPEG, Quality: 50}, {Format: WebP}, {Format: WebP, Quality: 80}} {
		for _, prompt := range prompts {
			want := sample(prompt)
			file := encoded(t, picture(21, 13), want, o)
			if !bytes.Equal(file, encoded(t, picture(21, 13), want, o)) {
				t.Errorf("%v: two encodings differ", o)
			}
			info, err := Read(bytes.NewReader(file), int64(len(file)))
			if err != nil {
				t.Fatalf("%v, %.20q: %v", o, prompt, err)
			}
			if info.Format != o.Format || info.Width != 21 || info.Height != 13 || !info.Complete {
				t.Errorf("%v, %.20q: got %v %d×%d, complete: %v", o, prompt, info.Format, info.Width, info.Height, info.Complete)
			}
			if lossless := o.Format == PNG || o.Format == WebP && o.Quality == 0; info.Lossless != lossless {
				t.Errorf("%v: lossless: %v", o, info.Lossless)
			}
			if diff := cmp.Diff(&want, info.Recipe); diff != "" {
				t.Errorf("%v, %.20q: recipe (-want +got):\n%s", o, prompt, diff)
			}
			if got := info.Text("parameters"); got != want.Parameters() {
				t.Errorf("%v, %.20q: parameters %q", o, prompt, got)
			}
		}
	}
}

func TestPixelsThereAndBack(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {21, 13}, {64, 64}} {
		img := picture(size[0], size[1])
		for _, o := range []Options{{Format: PNG}, {Format: WebP}, {Format: JPEG, Quality: 100}} {
			file := encoded(t, img, sample("x"), o)
			got, err := Decode(bytes.NewReader(file), int64(len(file)))
			if err != nil {
				t.Fatal(err)
			}
			if got.Rect != img.Rect {
				t.Fatalf("%v: %v became %v", o.Format, img.Rect, got.Rect)
			}
			if o.Format != JPEG && !bytes.Equal(got.Pix, img.Pix) {
				t.Errorf("%v %v: pixels changed", o.Format, size)
			}
		}
	}
}

// The order of chunks is the standard's: colour before the pixels, and texts there too, where all readers look.
func TestPNGChunks(t *testing.T) {
	for prompt, text := range map[string]string{"a": "tEXt", "é": "tEXt", "猫": "tEXt iTXt", "Ã©": "tEXt iTXt"} {
		file := encoded(t, picture(3, 2), sample(prompt), Options{})
		var kinds []string
		for at := 8; at < len(file); {
			n := int(binary.BigEndian.Uint32(file[at:]))
			kinds = append(kinds, string(file[at+4:at+8]))
			if sum := crc32.ChecksumIEEE(file[at+4 : at+8+n]); sum != binary.BigEndian.Uint32(file[at+8+n:]) {
				t.Errorf("wrong checksum of %s", kinds[len(kinds)-1])
			}
			at += 12 + n
		}
		if got, want := strings.Join(kinds, " "), "IHDR gAMA cHRM sRGB "+text+" iTXt iTXt IDAT IEND"; got != want {
			t.Errorf("%q: chunks %s; want %s", prompt, got, want)
		}
		if _, err := png.Decode(bytes.NewReader(file)); err != nil {
			t.Errorf("image/png: %v", err)
		}
	}
}

// Readers that know no iTXt find the text in ASCII, and so does this program where the rest was lost.
func TestTextWithoutInternational(t *testing.T) {
	want := sample("猫 😀 café")
	file := encoded(t, picture(3, 2), want, Options{})
	var kept bytes.Buffer
	kept.WriteString(pngSignature)
	for at := 8; at < len(file); {
		n := int(binary.BigEndian.Uint32(file[at:])) + 12
		if string(file[at+4:at+8]) != "iTXt" {
			kept.Write(file[at : at+n])
		}
		at += n
	}
	info, err := Read(bytes.NewReader(kept.Bytes()), int64(kept.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if text := info.Text("parameters"); !strings.HasPrefix(text, `\u732b \ud83d\ude00 café`) {
		t.Errorf("text %q", text)
	}
	if info.Complete || info.Recipe == nil || info.Recipe.Prompt != want.Prompt || info.Recipe.Negative != "a <b> & \"c\"\ntab" {
		t.Errorf("recipe %+v", info.Recipe)
	}
}

// The files of testdata come from Pillow and piexif; see train/goldens_imagefile.py.
func TestReadsOthersFiles(t *testing.T) {
	const rest = "\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 42, Size: 8x6"
	const latin, wide = "café au lait", "猫 😀"
	for name, prompt := range map[string]string{
		"text.png": latin, "ztxt.png": latin, "wide.png": wide, "itxt-zip.png": wide,
		"piexif.jpg": wide, "piexif.webp": wide, "pillow.webp": wide, "fooocus.jpg": "cafe au lait", "little.jpg": wide,
	} {
		info, err := Inspect(filepath.Join("testdata", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Width != 8 || info.Height != 6 {
			t.Errorf("%s: %d×%d", name, info.Width, info.Height)
		}
		if got := info.Text("parameters"); got != prompt+rest {
			t.Errorf("%s: parameters %q", name, got)
		}
		if info.Complete || info.Recipe == nil || info.Recipe.Seed != 42 || info.Recipe.Prompt != prompt || info.Recipe.Name() != "dpm++2m-karras" {
			t.Errorf("%s: recipe %+v, complete: %v", name, info.Recipe, info.Complete)
		}
	}
	info, err := Inspect("testdata/plain.png")
	if err != nil || info.Recipe != nil || info.Parameters != nil || len(info.Texts) != 0 {
		t.Errorf("plain.png: %+v, %v", info, err)
	}
}

// TestOthersReadOurFiles asks Pillow what it finds, where it is installed.
func TestOthersReadOurFiles(t *testing.T) {
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	if exec.Command(python, "-c", "import PIL").Run() != nil {
		t.Skip("SKIPPED: no Python with Pillow; set PYTHON to one to check that Pillow reads the files written here")
	}
	const script = `
import sys
from PIL import Image
path, wanted = sys.argv[1], open(sys.argv[2], encoding="utf-8", newline="").read()
image = Image.open(path)
image.load()
if path.endswith(".png"):
    got = image.text["parameters"]
    assert image.info["srgb"] == 0 and image.info["gamma"] == 0.45455, image.info
    assert image.text["darkroom"].startswith("{")
else:
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0", comment[:8]
    got = comment[8:].decode("utf-16-be")
    # Pillow does not put the parts of an extended packet together.
    name = b"xmpNote:HasExtendedXMP" if path.endswith(".jpeg") and len(wanted) > 60000 else b"darkroom:recipe"
    assert name in image.info["xmp"]
assert str(got) == wanted, (got, wanted)
`
	for _, o := range []Options{{Format: PNG}, {Format: JPEG}, {Format: WebP}, {Format: WebP, Quality: 70}} {
		for i, prompt := range prompts {
			dir := t.TempDir()
			r := sample(prompt)
			file := filepath.Join(dir, "x."+strings.ToLower(o.Format.String()))
			text := filepath.Join(dir, "wanted.txt")
			save(t, file, encoded(t, picture(21, 13), r, o))
			save(t, text, []byte(r.Parameters()))
			if out, err := exec.Command(python, "-c", script, file, text).CombinedOutput(); err != nil {
				t.Errorf("%v, prompt %d: %v\n%s", o, i, err, out)
			}
		}
	}
}

func TestFormatOf(t *testing.T) {
	for path, want := range map[string]Format{"a.png": PNG, "b/c.PNG": PNG, "a.jpg": JPEG, "a.jpeg": JPEG, "a.b.webp": WebP} {
		if got, err := FormatOf(path); err != nil || got != want {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
	for path, want := range map[string]string{"a.gif": `cannot write ".gif" files: use .png, .jpg or .webp`, "a": "end it with .png, .jpg or .webp"} {
		if _, err := FormatOf(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestRecipeTooLongForJPEG(t *testing.T) {
	err := Encode(&bytes.Buffer{}, picture(8, 8), sample(strings.Repeat("x", recipe.MaxJSON)), Options{Format: JPEG})
	if err == nil || !strings.Contains(err.Error(), "shorten the prompt or write a PNG") {
		t.Errorf("error %v", err)
	}
}

func save(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}
