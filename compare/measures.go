package compare

import (
	"math"
	"slices"
	"strings"
)

// Measure describes a column of the report.
type Measure struct {
	Key   string `json:"key"`
	Title string `json:"title"`
	Unit  string `json:"unit,omitempty"`
	About string `json:"about"`
	// Better is 1 where more is better, -1 where less is, 0 where neither is.
	Better int `json:"better"`
	// Noticeable is a loss that one has to look for.
	Noticeable float64 `json:"noticeable,omitempty"`
	// OfSet says that the measure is of a setting's pictures together, not of each.
	OfSet bool `json:"ofSet,omitempty"`
	// Distance is what plots draw on a logarithmic axis in place of the measure: "1 − SSIM"; "": the measure itself, as it is.
	Distance string `json:"distance,omitempty"`

	needs need
	scale scale
}

// scale is on what a measure is averaged and compared: one on which good settings spread as much as bad ones do.
type scale int

const (
	asItIs     scale = iota
	oneMinus         // −ln(1−v): a loss is a ratio of what is missing to 1
	ofDistance       // −ln(v): a loss is a ratio of distances
)

// leastDistance is the smallest distance that counts: no converged solution is known better.
const leastDistance = 1e-4

func (m Measure) sign() float64 {
	if m.Better < 0 {
		return -1
	}
	return 1
}

// even brings a value to the scale on which spread is even, where more is better; back is its inverse.
func (m Measure) even(v float64) float64 {
	switch m.scale {
	case oneMinus:
		return -math.Log(max(1-v, leastDistance))
	case ofDistance:
		return -math.Log(max(v, leastDistance))
	}
	return m.sign() * v
}

func (m Measure) back(v float64) float64 {
	switch m.scale {
	case oneMinus:
		return 1 - math.Exp(-v)
	case ofDistance:
		return math.Exp(-v)
	}
	return m.sign() * v
}

// enoughPictures is from how many pictures a setting's Fréchet distance, KID, precision and recall say more of them than of their
// number.
const enoughPictures = 64

type need int

const (
	needsNothing need = iota
	needsReference
	needsJudge
	needsBoth
)

// measures in the order in which they are shown. Those of pictures can decide a ranking.
func measures() []Measure {
	return []Measure{
		{Key: "agreement", Title: "Prompt agreement", Better: 1, Noticeable: 1, needs: needsJudge,
			About: "how far the judge finds in the picture what the prompt asks for: of a CLIP judge, 100 × the cosine of picture and text; of a classifier, the probability of the prompt's noun in percent"},
		{Key: "preference", Title: "Preference", Better: 1, Noticeable: 0.1, needs: needsJudge, About: "the score of the judge's own head (aesthetics, human preference)"},
		{Key: "ssim", Title: "SSIM", Better: 1, Noticeable: 0.02, needs: needsReference, scale: oneMinus, Distance: "1 − SSIM", About: "structural similarity to the converged solution of the same noise; 1 is equal"},
		{Key: "msssim", Title: "MS-SSIM", Better: 1, Noticeable: 0.02, needs: needsReference, scale: oneMinus, Distance: "1 − MS-SSIM", About: "the same over several scales"},
		{Key: "psnr", Title: "PSNR", Unit: "dB", Better: 1, Noticeable: 1, needs: needsReference, About: "distance to the converged solution, pixel by pixel; 100 stands for equal"},
		{Key: "rmse", Title: "Latent RMSE", Better: -1, Noticeable: 0.02, needs: needsReference, scale: ofDistance, Distance: "Latent RMSE", About: "distance to the converged solution before decoding"},
		{Key: "frechet", Title: "Fréchet distance", Better: -1, OfSet: true, needs: needsBoth, About: "between the features of these pictures and of the converged ones; small sets raise it"},
		{Key: "kid", Title: "KID", Better: -1, OfSet: true, needs: needsBoth, About: "kernel distance of the features, unbiased: 0 within chance means no difference"},
		{Key: "cmmd", Title: "CMMD", Better: -1, OfSet: true, needs: needsBoth, About: "kernel distance of the features of length 1"},
		{Key: "precision", Title: "Precision", Better: 1, OfSet: true, needs: needsBoth, About: "share of pictures within reach of a converged one"},
		{Key: "recall", Title: "Recall", Better: 1, OfSet: true, needs: needsBoth, About: "share of converged pictures within reach of one of these"},
		{Key: "diversity", Title: "Diversity", Better: 0, OfSet: true, needs: needsJudge, About: "mean feature distance of pictures of the same prompt with different seeds"},
		{Key: "vendi", Title: "Vendi score", Better: 0, OfSet: true, needs: needsJudge, About: "effective number of different pictures among the seeds of a prompt"},
		{Key: "sharpness", Title: "Sharpness", About: "variance of the Laplacian"},
		{Key: "contrast", Title: "Contrast", About: "standard deviation of luma"},
		{Key: "saturation", Title: "Saturation", About: "mean HSV saturation"},
		{Key: "colourful", Title: "Colourfulness", About: "Hasler and Süsstrunk 2003"},
		{Key: "burnt", Title: "Burnt pixels", Unit: "share", About: "pixels of which one channel has run into its end while another is dark"},
	}
}

func measure(key string) (Measure, bool) {
	all := measures()
	i := slices.IndexFunc(all, func(m Measure) bool { return m.Key == key })
	if i < 0 {
		return Measure{}, false
	}
	return all[i], true
}

// checkMeasure says whether a measure can decide a ranking in this comparison.
func checkMeasure(key string, judge, reference bool) error {
	var names []string
	for _, m := range measures() {
		if m.Better != 0 && !m.OfSet {
			names = append(names, m.Key)
		}
	}
	m, ok := measure(key)
	switch {
	case !ok || !slices.Contains(names, key):
		return usagef("--rank-by %q: choose one of %s", key, strings.Join(names, ", "))
	case m.needs == needsReference && !reference:
		return usagef("--rank-by %s needs the converged solution, and --reference-steps is 0", key)
	case m.needs == needsJudge && !judge:
		return usagef("--rank-by %s needs a judge, and there is none: give --judge FOLDER", key)
	}
	return nil
}

// finite is v, nil for NaN and infinities, which JSON does not have.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
