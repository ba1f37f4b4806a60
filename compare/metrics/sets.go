package metrics

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// Features are rows of one length, one a picture.
type Features [][]float64

func (f Features) matrix() *mat.Dense {
	m := mat.NewDense(len(f), len(f[0]), nil)
	for i, row := range f {
		m.SetRow(i, row)
	}
	return m
}

// mustPair panics where sets are too small or of different encoders: the caller's mistake.
func mustPair(a, b Features, least int) {
	if len(a) < least || len(b) < least || len(a[0]) != len(b[0]) {
		panic(fmt.Sprintf("metrics: sets of %d and %d features, at least %d are needed, of one width", len(a), len(b), least))
	}
}

// Frechet is the Fréchet distance of the normal distributions with the sets' means and covariances (Heusel et al. 2017):
//
//	|μ₁−μ₂|² + Tr Σ₁ + Tr Σ₂ − 2·Tr √(Σ₁Σ₂)
//
// With A the centred rows over √(n−1), Σ₁ = AᵀA and Σ₂ = BᵀB, and Tr √(Σ₁Σ₂) is the sum of the singular values of A·Bᵀ: no
// root of a matrix is taken, and nothing is lost where there are fewer pictures than features. Needs two pictures a
// set; below a few hundred it says more of the number of pictures than of their quality.
func Frechet(a, b Features) float64 {
	mustPair(a, b, 2)
	μa, ra := centred(a)
	μb, rb := centred(b)
	var product mat.Dense
	product.Mul(ra, rb.T())
	var svd mat.SVD
	if !svd.Factorize(&product, mat.SVDNone) {
		return math.NaN() // the features are not finite
	}
	d := floats.Distance(μa, μb, 2)
	na, nb := mat.Norm(ra, 2), mat.Norm(rb, 2) // Frobenius: Tr Σ is its square
	return d*d + na*na + nb*nb - 2*floats.Sum(svd.Values(nil))
}

// centred returns the mean and a matrix R with RᵀR the sample covariance, of no more rows than columns.
func centred(f Features) (mean []float64, r *mat.Dense) {
	m := f.matrix()
	n, d := m.Dims()
	mean = make([]float64, d)
	for _, row := range f {
		floats.Add(mean, row)
	}
	floats.Scale(1/float64(n), mean)
	for i := range n {
		floats.Sub(m.RawRowView(i), mean)
	}
	m.Scale(1/math.Sqrt(float64(n-1)), m)
	if n <= d {
		return mean, m
	}
	var qr mat.QR
	qr.Factorize(m)
	var upper mat.Dense
	qr.RTo(&upper)
	return mean, mat.DenseCopyOf(upper.Slice(0, d, 0, d))
}

// KID is the kernel inception distance (Bińkowski et al. 2018): the unbiased squared MMD with the kernel (x·y/d + 1)³. It may
// be slightly negative where the sets do not differ. All pairs are used, no random subsets.
func KID(a, b Features) float64 {
	mustPair(a, b, 2)
	d := float64(len(a[0]))
	k := func(x, y []float64) float64 {
		v := floats.Dot(x, y)/d + 1
		return v * v * v
	}
	return meanOffDiagonal(a, k) + meanOffDiagonal(b, k) - 2*meanCross(a, b, k)
}

// CMMD is the distance of Jayasumana et al. 2024: 1000 times the squared MMD with the kernel exp(−|x−y|²/(2·10²)) over CLIP
// embeddings of length 1 (it normalises them). As theirs, it is the biased estimate and never negative.
func CMMD(a, b Features) float64 {
	mustPair(a, b, 1)
	a, b = normalised(a), normalised(b)
	k := func(x, y []float64) float64 {
		d := floats.Distance(x, y, 2)
		return math.Exp(-d * d / (2 * 10 * 10))
	}
	return 1000 * (meanCross(a, a, k) + meanCross(b, b, k) - 2*meanCross(a, b, k))
}

type kernel func(x, y []float64) float64

func meanOffDiagonal(a Features, k kernel) float64 {
	var sum float64
	for i := range a {
		for j := range i {
			sum += k(a[i], a[j])
		}
	}
	n := float64(len(a))
	return 2 * sum / (n * (n - 1))
}

func meanCross(a, b Features, k kernel) float64 {
	var sum float64
	for _, x := range a {
		for _, y := range b {
			sum += k(x, y)
		}
	}
	return sum / float64(len(a)*len(b))
}

// PrecisionRecall are those of Kynkäänniemi et al. 2019: the share of made pictures that lie within the reach of a real one,
// and the share of real ones within the reach of a made one. A picture's reach is the distance to its k-th nearest
// neighbour in its own set; 3 is usual. Needs more than k pictures a set.
func PrecisionRecall(made, real Features, k int) (precision, recall float64) {
	mustPair(made, real, k+1)
	return covered(made, real, reaches(real, k)), covered(real, made, reaches(made, k))
}

func reaches(f Features, k int) []float64 {
	r := make([]float64, len(f))
	for i, x := range f {
		ds := make([]float64, len(f))
		for j, y := range f {
			ds[j] = floats.Distance(x, y, 2)
		}
		slices.Sort(ds)
		r[i] = ds[k] // ds[0] is the picture itself
	}
	return r
}

// covered is the share of points of a within the reach of any point of b.
func covered(a, b Features, reach []float64) float64 {
	n := 0
	for _, x := range a {
		if slices.ContainsFunc(indices(len(b)), func(j int) bool { return floats.Distance(x, b[j], 2) < reach[j] }) {
			n++
		}
	}
	return float64(n) / float64(len(a))
}

func indices(n int) []int {
	v := make([]int, n)
	for i := range v {
		v[i] = i
	}
	return v
}

// Vendi is the score of Friedman and Dieng 2023: the exponential of the entropy of the eigenvalues of K/n, with K the cosine
// similarities. It counts effectively different pictures: 1 if all are the same, n if no two have anything in common.
func Vendi(f Features) float64 {
	if len(f) == 0 {
		panic("metrics: Vendi of no features")
	}
	f = normalised(f)
	k := mat.NewSymDense(len(f), nil)
	for i := range f {
		for j := range i + 1 {
			k.SetSym(i, j, floats.Dot(f[i], f[j])/float64(len(f)))
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(k, false) {
		return math.NaN()
	}
	var entropy float64
	for _, λ := range eigen.Values(nil) {
		if λ > 0 {
			entropy -= λ * math.Log(λ)
		}
	}
	return math.Exp(entropy)
}

// MeanDistance is the mean cosine distance 1 − cos over all pairs. Needs two rows.
func MeanDistance(f Features) float64 {
	mustPair(f, f, 2)
	f = normalised(f)
	return meanOffDiagonal(f, func(x, y []float64) float64 { return 1 - floats.Dot(x, y) })
}

func normalised(f Features) Features {
	out := make(Features, len(f))
	for i, row := range f {
		out[i] = slices.Clone(row)
		if n := floats.Norm(row, 2); n > 0 {
			floats.Scale(1/n, out[i])
		}
	}
	return out
}
