package imagefile

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"io/fs"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/disintegration/imaging"
)

// drawing is a picture of shapes on a ground that changes slowly, with some noise: a stand-in for what models make.
func drawing(seed uint64, w, h int) *image.NRGBA {
	r := rand.New(rand.NewPCG(seed, 1))
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	var a, b, noise [3]float64
	for k := range 3 {
		a[k], b[k], noise[k] = 255*r.Float64(), 255*r.Float64(), 6*r.Float64()
	}
	for y := range h {
		for x := range w {
			i := img.PixOffset(x, y)
			for k := range 3 {
				v := a[k] + (b[k]-a[k])*float64(y)/float64(h) + noise[k]*r.NormFloat64()
				img.Pix[i+k] = uint8(min(max(v, 0), 255))
			}
			img.Pix[i+3] = 255
		}
	}
	for range 2 + r.IntN(6) {
		cx, cy, rx, ry := r.Float64()*float64(w), r.Float64()*float64(h), (0.05+0.3*r.Float64())*float64(w), (0.05+0.3*r.Float64())*float64(h)
		c := color.NRGBA{uint8(r.IntN(256)), uint8(r.IntN(256)), uint8(r.IntN(256)), 255}
		box := r.IntN(2) == 0
		for y := range h {
			for x := range w {
				dx, dy := (float64(x)-cx)/rx, (float64(y)-cy)/ry
				if box && max(math.Abs(dx), math.Abs(dy)) < 1 || !box && dx*dx+dy*dy < 1 {
					img.SetNRGBA(x, y, c)
				}
			}
		}
	}
	return img
}

func compressed(t *testing.T, img image.Image, quality int) *image.NRGBA {
	t.Helper()
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, img, &jpeg.Options{Quality: quality}); err != nil {
		t.Fatal(err)
	}
	out, err := jpeg.Decode(&buf)
	if err != nil {
		t.Fatal(err)
	}
	return imaging.Clone(out)
}

// The mark is found after a JPEG of quality 75, at half and at twice the size, in another proportion, brighter and with less contrast,
// and it is hardly there to be seen.
func TestWatermarkSurvives(t *testing.T) {
	found := map[string]int{}
	const pictures = 40
	marked := 0
	for seed := range uint64(pictures) {
		size := []int{128, 192, 256, 512}[seed%4]
		was := drawing(seed, size, size*3/4+32)
		img := imaging.Clone(was)
		if !Mark(img) {
			continue
		}
		marked++
		mse := 0.0
		for i := range img.Pix {
			d := float64(img.Pix[i]) - float64(was.Pix[i])
			mse += d * d / float64(len(img.Pix)*3/4)
		}
		if dB := 10 * math.Log10(255*255/mse); dB < 34.5 {
			t.Errorf("picture %d: the mark is %.1f dB strong", seed, dB)
		}
		w, h := img.Rect.Dx(), img.Rect.Dy()
		for what, now := range map[string]*image.NRGBA{
			"as it is":     img,
			"JPEG 75":      compressed(t, img, 75),
			"half size":    imaging.Resize(img, w/2, h/2, imaging.Lanczos),
			"half, linear": imaging.Resize(img, w/2, h/2, imaging.Linear),
			"both":         compressed(t, imaging.Resize(img, w/2, h/2, imaging.Lanczos), 75),
			"twice":        imaging.Resize(img, 2*w, 2*h, imaging.CatmullRom),
			"stretched":    imaging.Resize(img, w, h*2/3, imaging.Box),
			"brighter":     imaging.AdjustContrast(imaging.AdjustBrightness(img, 10), -20),
		} {
			if MarkScore(now) >= MarkFound {
				found[what]++
			}
		}
	}
	if marked < pictures-2 {
		t.Errorf("%d of %d pictures took the mark", marked, pictures)
	}
	for what, n := range found {
		least := marked
		if what == "both" || what == "brighter" { // what is promised is each by itself
			least = marked * 9 / 10
		}
		if n < least {
			t.Errorf("%s: found in %d of %d", what, n, marked)
		}
	}
	if len(found) != 8 {
		t.Errorf("found after %v", found)
	}
}

// Pictures without the mark have scores as chance has them: none of thousands is near the one that counts, and their spread is that of
// a standard normal, whatever they show.
func TestWatermarkFalsePositives(t *testing.T) {
	n := 1500
	if testing.Short() {
		n = 400
	}
	var worst, sum, squares float64
	for seed := range uint64(n) {
		s := MarkScore(drawing(seed+1000, 64+int(seed%3)*32, 64+int(seed%5)*16))
		worst, sum, squares = max(worst, s), sum+s, squares+s*s
	}
	mean, spread := sum/float64(n), math.Sqrt(squares/float64(n))
	t.Logf("%d pictures: mean %.2f, spread %.2f, largest %.2f", n, mean, spread, worst)
	if math.Abs(mean) > 0.2 || spread > 1.15 || worst > MarkFound-0.5 {
		t.Errorf("%d pictures without a mark: mean %.2f, spread %.2f, largest %.2f", n, mean, spread, worst)
	}
	real := 0
	for _, dir := range []string{"../samples", "../pipeline/testdata", "../docs", "testdata"} {
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".png") && !strings.HasSuffix(path, ".jpg") || strings.Contains(path, "watermark") {
				return nil
			}
			p, err := Load(path)
			if err != nil {
				return nil
			}
			real++
			if s := MarkScore(p.Pixels); s >= MarkFound {
				t.Errorf("%s: %.1f", path, s)
			}
			return nil
		})
	}
	if real < 30 {
		t.Errorf("%d pictures of the repository were looked at", real)
	}
}

// What is too small or plain takes no mark, and has none; what cannot be marked stays as it is.
func TestWatermarkLimits(t *testing.T) {
	small := drawing(1, 63, 200)
	was := bytes.Clone(small.Pix)
	if Mark(small) || !bytes.Equal(small.Pix, was) {
		t.Error("a picture of 63 pixels took a mark")
	}
	for _, size := range []int{1, 7, 64, 300} {
		plain := imaging.New(size, size, color.NRGBA{200, 30, 90, 255})
		if s := MarkScore(plain); s != 0 {
			t.Errorf("a plain picture of %d pixels: %.1f", size, s)
		}
	}
	grey := imaging.New(200, 100, color.NRGBA{128, 128, 128, 255})
	if !Mark(grey) || MarkScore(grey) < MarkFound {
		t.Error("a plain picture took no mark")
	}
	a, b := drawing(3, 200, 200), drawing(3, 200, 200)
	Mark(a)
	Mark(b)
	if !bytes.Equal(a.Pix, b.Pix) {
		t.Error("the same picture was marked in two ways")
	}
}
