// Package preprocess turns pictures into what control networks were trained to read (edges, lines, grey pictures), without a
// network of its own.
package preprocess

import (
	"fmt"
	"image"
	"math"
	"strings"

	"github.com/disintegration/imaging"

	"darkroom/similar"
)

// Options are the thresholds of those that have some; 0 is the preprocessor's own.
type Options struct{ Low, High float64 }

// Info names a preprocessor and says what it is for.
type Info struct{ Name, About string }

type preprocessor struct {
	Info
	do func(*image.NRGBA, Options) *image.NRGBA
}

var all = []preprocessor{
	{Info{"canny", "thin white edges on black, as OpenCV finds them; low and high are its thresholds (100, 200)"}, canny},
	{Info{"edges", "soft edges: the slope of brightness; high is the slope that becomes white (the picture's steepest)"}, edges},
	{Info{"scribble", "white lines on black from a drawing with dark lines; low is the darkness that counts (127)"}, scribble},
	{Info{"sketch", "rough white lines on black from a photograph; low is the contrast that counts (32)"}, sketch},
	{Info{"grey", "brightness alone"}, grey},
	{Info{"recolour", "lightness as the eye has it (CIE L*), for networks that add colours"}, recolour},
	{Info{"tile", "the picture without its details, for networks that add them; low is how many pixels become one (4)"}, tile},
	{Info{"invert", "black becomes white"}, invert},
}

// All lists the preprocessors.
func All() (list []Info) {
	for _, p := range all {
		list = append(list, p.Info)
	}
	return list
}

// Names are what Apply takes.
func Names() (names []string) {
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names
}

// Check says whether there is a preprocessor of that name.
func Check(name string) error {
	_, err := find(name)
	return err
}

// Apply makes a picture of the same size. Transparency counts for nothing.
func Apply(name string, img *image.NRGBA, o Options) (*image.NRGBA, error) {
	p, err := find(name)
	if err != nil {
		return nil, err
	}
	return p.do(tight(img), o), nil
}

func find(name string) (*preprocessor, error) {
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
	}
	return nil, fmt.Errorf("no preprocessor is called %.40q: there are %s%s", name, strings.Join(Names(), ", "), similar.Hint(name, Names()))
}

// tight is a picture whose rows follow each other, from 0.
func tight(img *image.NRGBA) *image.NRGBA {
	if img.Stride == 4*img.Rect.Dx() && img.Rect.Min == (image.Point{}) {
		return img
	}
	return imaging.Clone(img)
}

func or(v, otherwise float64) float64 {
	if v == 0 {
		return otherwise
	}
	return v
}

// mapped makes a grey picture of each pixel's three colours.
func mapped(img *image.NRGBA, f func(r, g, b uint8) uint8) *image.NRGBA {
	out := image.NewNRGBA(image.Rect(0, 0, img.Rect.Dx(), img.Rect.Dy()))
	for i := 0; i < len(out.Pix); i += 4 {
		v := f(img.Pix[i], img.Pix[i+1], img.Pix[i+2])
		out.Pix[i], out.Pix[i+1], out.Pix[i+2], out.Pix[i+3] = v, v, v, 255
	}
	return out
}

// luma is ITU-R BT.601's brightness, rounded as Pillow does.
func luma(r, g, b uint8) uint8 {
	return uint8((int(r)*19595 + int(g)*38470 + int(b)*7471 + 0x8000) >> 16)
}

func grey(img *image.NRGBA, _ Options) *image.NRGBA { return mapped(img, luma) }

func invert(img *image.NRGBA, _ Options) *image.NRGBA {
	out := image.NewNRGBA(image.Rect(0, 0, img.Rect.Dx(), img.Rect.Dy()))
	for i, v := range img.Pix[:len(out.Pix)] {
		out.Pix[i] = 255 - v
		if i%4 == 3 {
			out.Pix[i] = 255
		}
	}
	return out
}

func scribble(img *image.NRGBA, o Options) *image.NRGBA {
	dark := or(o.Low, 127)
	return mapped(img, func(r, g, b uint8) uint8 {
		if float64(min(r, g, b)) < dark {
			return 255
		}
		return 0
	})
}

// recolour is CIE 1976 L* of sRGB, scaled to 255.
func recolour(img *image.NRGBA, _ Options) *image.NRGBA {
	var linear [256]float64
	for i := range linear {
		if v := float64(i) / 255; v <= 0.04045 {
			linear[i] = v / 12.92
		} else {
			linear[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return mapped(img, func(r, g, b uint8) uint8 {
		y := 0.2126*linear[r] + 0.7152*linear[g] + 0.0722*linear[b]
		l := 903.3 * y
		if y > 0.008856 {
			l = 116*math.Cbrt(y) - 16
		}
		return uint8(min(max(math.Round(l*2.55), 0), 255))
	})
}

func tile(img *image.NRGBA, o Options) *image.NRGBA {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	n := max(int(or(o.Low, 4)), 1)
	small := imaging.Resize(img, max(w/n, 1), max(h/n, 1), imaging.Box)
	return imaging.Resize(small, w, h, imaging.CatmullRom)
}

// sketch is a difference of Gaussians that is cut at a threshold (Winnemöller et al. 2012, "XDoG"), as the web UIs' scribble_xdog.
func sketch(img *image.NRGBA, o Options) *image.NRGBA {
	fine, coarse := imaging.Blur(img, 0.5), imaging.Blur(img, 5)
	limit := or(o.Low, 32)
	out := image.NewNRGBA(image.Rect(0, 0, img.Rect.Dx(), img.Rect.Dy()))
	for i := 0; i < len(out.Pix); i += 4 {
		least := math.Inf(1)
		for c := range 3 {
			least = min(least, float64(coarse.Pix[i+c])-float64(fine.Pix[i+c]))
		}
		v := uint8(0)
		if 2*min(max(least, 0), 255) > limit {
			v = 255
		}
		out.Pix[i], out.Pix[i+1], out.Pix[i+2], out.Pix[i+3] = v, v, v, 255
	}
	return out
}
