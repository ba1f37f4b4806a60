package metrics

import (
	"image"
	"math"
	"testing"

	"darkroom/compare/internal/golden"
)

// goldens is testdata/goldens.json, made by train/goldens_metrics.py with scikit-image, torchmetrics, clean-fid, prdc,
// vendi-score and scipy.
type goldens struct {
	Pictures []struct {
		Name               string
		PSNR, SSIM, MSSSIM float64
		Scales             int
		Look               Look
	}
	Sets []struct {
		A, B               Features
		Same               int
		Frechet, KID, CMMD float64
		Precision, Recall  float64
		Vendi              float64
		Distance           float64
	}
	Latents [2][]float32
	RMSE    float64
}

// near compares with a relative tolerance: 1e-9 where both sides compute in float64, in another order.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*max(math.Abs(want), 1e-3)) {
		t.Errorf("%s = %.12g, want %.12g", what, got, want)
	}
}

func TestPictures(t *testing.T) {
	for _, g := range golden.JSON[goldens](t).Pictures {
		a, b := golden.PNG(t, g.Name+"-a"), golden.PNG(t, g.Name+"-b")
		near(t, g.Name+": PSNR", PSNR(a, b), g.PSNR, 1e-9)
		near(t, g.Name+": SSIM", SSIM(a, b), g.SSIM, 1e-9)
		if n := msScales(a.Rect.Dx(), a.Rect.Dy()); n != g.Scales {
			t.Errorf("%s: %d scales, want %d", g.Name, n, g.Scales)
		}
		// 1e-5: torchmetrics makes its Gaussian window in float32.
		near(t, g.Name+": MS-SSIM", MSSSIM(a, b), g.MSSSIM, 1e-5)
		l := LookOf(b)
		near(t, g.Name+": sharpness", l.Sharpness, g.Look.Sharpness, 1e-9)
		near(t, g.Name+": brightness", l.Brightness, g.Look.Brightness, 1e-9)
		near(t, g.Name+": contrast", l.Contrast, g.Look.Contrast, 1e-9)
		near(t, g.Name+": colourfulness", l.Colourful, g.Look.Colourful, 1e-9)
		near(t, g.Name+": saturation", l.Saturation, g.Look.Saturation, 1e-9)
		near(t, g.Name+": burnt", l.Burnt, g.Look.Burnt, 1e-9)
		if g.Look.Burnt == 0 {
			t.Errorf("%s: nothing is burnt: the test shows nothing", g.Name)
		}
	}
}

func TestSets(t *testing.T) {
	g := golden.JSON[goldens](t)
	near(t, "RMSE", RMSE(g.Latents[0], g.Latents[1]), g.RMSE, 1e-6) // the values are float32 here
	for _, s := range g.Sets {
		// 1e-6: scipy takes the root of Σ₁Σ₂, which is singular in the second set, through a Schur decomposition:
		// half of the digits of a zero eigenvalue are lost.
		near(t, "Fréchet distance", Frechet(s.A, s.B), s.Frechet, 1e-6)
		near(t, "KID", KID(s.A[:s.Same], s.B[:s.Same]), s.KID, 1e-9)
		near(t, "CMMD", CMMD(s.A, s.B), s.CMMD, 1e-9)
		precision, recall := PrecisionRecall(s.A, s.B, 3)
		near(t, "precision", precision, s.Precision, 1e-9)
		near(t, "recall", recall, s.Recall, 1e-9)
		near(t, "Vendi score", Vendi(s.A), s.Vendi, 1e-9)
		near(t, "distance", MeanDistance(s.A), s.Distance, 1e-9)
	}
}

// What mathematics says without any golden file.
func TestIdentities(t *testing.T) {
	s := golden.JSON[goldens](t).Sets[0]
	near(t, "Fréchet distance to itself", 1+Frechet(s.A, s.A), 1, 1e-12)
	near(t, "CMMD to itself", 1+CMMD(s.A, s.A), 1, 1e-12)
	near(t, "Frechet, swapped", Frechet(s.B, s.A), Frechet(s.A, s.B), 1e-9)
	shifted := make(Features, len(s.A))
	for i, row := range s.A {
		shifted[i] = make([]float64, len(row))
		for j, v := range row {
			shifted[i][j] = v + 2
		}
	}
	near(t, "Fréchet distance to itself shifted by 2 in each of 5 directions", Frechet(s.A, shifted), 20, 1e-9)
	near(t, "Vendi score of four equal pictures", Vendi(Features{{1, 2}, {1, 2}, {1, 2}, {2, 4}}), 1, 1e-9)
	near(t, "Vendi score of three with nothing in common", Vendi(Features{{1, 0, 0}, {0, 3, 0}, {0, 0, 2}}), 3, 1e-9)
	p := golden.PNG(t, "small-a")
	if !math.IsInf(PSNR(p, p), 1) {
		t.Errorf("PSNR of equal pictures is %v, want +Inf", PSNR(p, p))
	}
	near(t, "SSIM of equal pictures", SSIM(p, p), 1, 1e-12)
	near(t, "MS-SSIM of equal pictures", MSSSIM(p, p), 1, 1e-12)
	tiny := image.NewNRGBA(image.Rect(0, 0, 8, 8))
	if !math.IsNaN(SSIM(tiny, tiny)) || !math.IsNaN(MSSSIM(tiny, tiny)) {
		t.Error("SSIM of a picture smaller than its window must be NaN")
	}
}
