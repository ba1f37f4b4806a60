package checkpoint

import (
	"fmt"
	"math"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"darkroom/tensor"
)

type changeKind int

const (
	loraChange changeKind = iota // ΔW = up·down, or with a core: Tucker
	lohaChange                   // ΔW = (w1a·w1b) ⊙ (w2a·w2b) (FedPara, Hyeon-Woo et al. 2021)
	lokrChange                   // ΔW = w1 ⊗ w2 (KronA, Edalati et al. 2022)
	fullChange                   // ΔW itself
	setChange                    // W' itself
	ia3Change                    // ΔW = W times a factor a row or column (Liu et al. 2022)
)

// change is what an adapter does to one array.
type change struct {
	shape tensor.Shape // of the array that is changed
	kind  changeKind
	parts module
	scale float64 // α/r
}

// newChange checks that the parts make a change of the shape.
func newChange(parts module, shape tensor.Shape) (*change, error) {
	c := &change{shape: shape, parts: parts, scale: 1}
	switch {
	case parts["oft"] != nil || parts["glora"] != nil || parts["reshape"] != nil || parts["bias"] != nil:
		return nil, fmt.Errorf("adapters of its kind (OFT, GLoRA, a reshaped weight or a bias) are not supported")
	case parts["set"] != nil:
		c.kind = setChange
		return c, c.elements("set")
	case parts["diff"] != nil:
		c.kind = fullChange
		return c, c.elements("diff")
	case parts["ia3"] != nil:
		c.kind = ia3Change
		n := parts["ia3"].Shape().Len()
		if len(shape) < 2 || n != shape[0] && n != shape[1] {
			return nil, fmt.Errorf("%d factors for a weight of %v", n, shape)
		}
		return c, nil
	case parts["hada_w1_a"] != nil || parts["hada_w1_b"] != nil:
		c.kind = lohaChange
		return c, c.checkLoHa()
	case parts["lokr_w1"] != nil || parts["lokr_w1_a"] != nil || parts["lokr_w2"] != nil:
		c.kind = lokrChange
		return c, c.checkLoKr()
	case parts["down"] != nil && parts["up"] != nil:
		return c, c.checkLoRA()
	}
	return nil, fmt.Errorf("half of the adapter is missing: the file is damaged")
}

func (c *change) elements(part string) error {
	if a := c.parts[part]; a.Shape().Len() != c.shape.Len() {
		return fmt.Errorf("it is made for a weight of %v, the model's is %v: it is for another family", a.Shape(), c.shape)
	}
	return nil
}

// matrix is a part's rows, and the product of its other axes.
func (c *change) matrix(part string) (rows, columns int) {
	a := c.parts[part]
	if a == nil || len(a.Shape()) == 0 || a.Shape()[0] == 0 {
		return 0, 0
	}
	s := a.Shape()
	return s[0], s.Len() / s[0]
}

func (c *change) misfit(rows, columns int) error {
	return fmt.Errorf("it makes a change of %d×%d, the model's weight is %v: it is for another family", rows, columns, c.shape)
}

// fits reports whether rows × columns are the weight's.
func (c *change) fits(rows, columns int) error {
	if len(c.shape) < 2 || rows != c.shape[0] || rows*columns != c.shape.Len() {
		return c.misfit(rows, columns)
	}
	return nil
}

func (c *change) checkLoRA() error {
	out, r := c.matrix("up")
	r2, in := c.matrix("down")
	if mid := c.parts["mid"]; mid != nil { // [r, r', k, k] between up [out, r] and down [r', in]
		s := mid.Shape()
		if len(s) != 4 || s[0] != r || s[1] != r2 {
			return fmt.Errorf("lora_mid is %v between ranks of %d and %d", s, r, r2)
		}
		return c.fits(out, in*s[2]*s[3])
	}
	if r != r2 || r == 0 {
		return fmt.Errorf("lora_up has rank %d, lora_down %d", r, r2)
	}
	return c.fits(out, in)
}

func (c *change) checkLoHa() error {
	for _, i := range []string{"1", "2"} {
		a, r := c.matrix("hada_w" + i + "_a")
		r2, in := c.matrix("hada_w" + i + "_b")
		if t := c.parts["hada_t"+i]; t != nil {
			// ΔW[p,q,…] = Σ t[i,j,…]·wb[j,q]·wa[i,p]: here wa is [r, out].
			s := t.Shape()
			if len(s) != 4 || s[0] != a || s[1] != r2 || a == 0 || r2 == 0 {
				return fmt.Errorf("hada_t%s is %v between ranks of %d and %d", i, s, a, r2)
			}
			a, r, in = r, r2, in*s[2]*s[3]
		}
		if r != r2 || r == 0 {
			return fmt.Errorf("hada_w%s_a has rank %d, hada_w%s_b %d", i, r, i, r2)
		}
		if err := c.fits(a, in); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) checkLoKr() error {
	a, b, err := c.factor("1")
	if err != nil {
		return err
	}
	out, in, err := c.factor("2")
	if err != nil {
		return err
	}
	return c.fits(a*out, b*in)
}

// factor is the shape of LoKr's first or second factor.
func (c *change) factor(i string) (rows, columns int, err error) {
	if c.parts["lokr_w"+i] != nil {
		rows, columns = c.matrix("lokr_w" + i)
	} else {
		var r, r2 int
		rows, r = c.matrix("lokr_w" + i + "_a")
		r2, columns = c.matrix("lokr_w" + i + "_b")
		if t := c.parts["lokr_t"+i]; t != nil { // [r, r', k, k]; wa is [r, out]
			s := t.Shape()
			if len(s) != 4 || s[0] != rows || s[1] != r2 {
				return 0, 0, fmt.Errorf("lokr_t%s is %v between ranks of %d and %d", i, s, rows, r2)
			}
			return r, columns * s[2] * s[3], nil
		}
		if r != r2 {
			return 0, 0, fmt.Errorf("lokr_w%s_a has rank %d, lokr_w%s_b %d", i, r, i, r2)
		}
	}
	if rows == 0 || columns == 0 {
		return 0, 0, fmt.Errorf("lokr_w%s is missing", i)
	}
	return rows, columns, nil
}

// rank is r of α/r, 0 where nothing is decomposed.
func (c *change) rank() int {
	part := ""
	switch c.kind {
	case loraChange:
		part = "down"
	case lohaChange:
		part = "hada_w1_b"
	case lokrChange:
		part = "lokr_w2_b"
		if c.parts[part] == nil {
			part = "lokr_w1_b"
		}
	}
	r, _ := c.matrix(part)
	return r
}

// rankScale is α/r, 1 without an α; α/√r for PEFT's rank-stabilised ones.
func (c *change) rankScale(p peftAlphas, name string) float64 {
	r := float64(c.rank())
	if r == 0 && c.kind == lokrChange { // LyCORIS's scale is 1 where both factors are whole, PEFT's is not
		r, _ = p.rank.of(name)
	}
	if r == 0 {
		return 1
	}
	alpha, ok := p.alpha.of(name)
	if a := c.parts["alpha"]; a != nil && a.Shape().Len() == 1 {
		one := make([]float32, 1)
		if a.Decode(one, 0) == nil {
			alpha, ok = float64(one[0]), true
		}
	}
	switch {
	case !ok:
		return 1
	case p.stabilised(name):
		return alpha / math.Sqrt(r)
	}
	return alpha / r
}

// values decodes a part whole.
func (c *change) values(part string) ([]float32, error) {
	a := c.parts[part]
	v := make([]float32, a.Shape().Len())
	return v, a.Decode(v, 0)
}

// product is a part times another: [m,k]·[k,n].
func (c *change) product(left, right string) ([]float32, error) {
	m, k := c.matrix(left)
	_, n := c.matrix(right)
	a, err := c.values(left)
	if err != nil {
		return nil, err
	}
	b, err := c.values(right)
	if err != nil {
		return nil, err
	}
	return multiply(a, b, m, k, n), nil
}

// multiply is a·b of [m,k] and [k,n].
func multiply(a, b []float32, m, k, n int) []float32 {
	out := make([]float32, m*n)
	blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, blas32.General{Rows: m, Cols: k, Stride: k, Data: a},
		blas32.General{Rows: k, Cols: n, Stride: n, Data: b}, 0, blas32.General{Rows: m, Cols: n, Stride: n, Data: out})
	return out
}

// tucker is Σ_ij core[i,j,…]·left(i,p)·right[j,q] as [p, q, …]; left is [out, r], or [r, out] where it is turned.
func (c *change) tucker(core, left, right string, turned bool) ([]float32, error) {
	t, err := c.values(core)
	if err != nil {
		return nil, err
	}
	l, err := c.values(left)
	if err != nil {
		return nil, err
	}
	r, err := c.values(right)
	if err != nil {
		return nil, err
	}
	s := c.parts[core].Shape()
	area := s[2] * s[3]
	out, _ := c.matrix(left)
	_, in := c.matrix(right)
	if turned {
		_, out = c.matrix(left)
		l = turn(l, s[0], out)
	}
	first := multiply(l, t, out, s[0], s[1]*area) // [out, r', …]
	result := make([]float32, 0, out*in*area)
	byColumn := turn(r, s[1], in) // [in, r']
	for p := range out {
		result = append(result, multiply(byColumn, first[p*s[1]*area:(p+1)*s[1]*area], in, s[1], area)...)
	}
	return result, nil
}

// turn is a matrix of rows × columns, transposed.
func turn(m []float32, rows, columns int) []float32 {
	t := make([]float32, len(m))
	for i := range rows {
		for j := range columns {
			t[j*rows+i] = m[i*columns+j]
		}
	}
	return t
}

// delta is ΔW, without α/r. w is the weight before the change.
func (c *change) delta(w []float32) ([]float32, error) {
	switch c.kind {
	case fullChange:
		return c.values("diff")
	case setChange:
		d, err := c.values("set")
		for i := range d {
			d[i] -= w[i]
		}
		return d, err
	case ia3Change:
		return c.factors(w)
	case lohaChange:
		return c.loha()
	case lokrChange:
		return c.lokr()
	}
	if c.parts["mid"] != nil {
		return c.tucker("mid", "up", "down", false)
	}
	return c.product("up", "down")
}

func (c *change) loha() ([]float32, error) {
	var both [2][]float32
	for i, n := range []string{"1", "2"} {
		var err error
		if c.parts["hada_t"+n] != nil {
			both[i], err = c.tucker("hada_t"+n, "hada_w"+n+"_a", "hada_w"+n+"_b", true)
		} else {
			both[i], err = c.product("hada_w"+n+"_a", "hada_w"+n+"_b")
		}
		if err != nil {
			return nil, err
		}
	}
	for i, v := range both[1] {
		both[0][i] *= v
	}
	return both[0], nil
}

// lokr is the Kronecker product: ΔW[a·m+i, b·n+j] = w1[a,b]·w2[i,j]; of a convolution, j runs over channels.
func (c *change) lokr() ([]float32, error) {
	factor := func(i string) (v []float32, rows, columns int, err error) {
		rows, columns, _ = c.factor(i)
		switch {
		case c.parts["lokr_w"+i] != nil:
			v, err = c.values("lokr_w" + i)
		case c.parts["lokr_t"+i] != nil:
			v, err = c.tucker("lokr_t"+i, "lokr_w"+i+"_a", "lokr_w"+i+"_b", true)
		default:
			v, err = c.product("lokr_w"+i+"_a", "lokr_w"+i+"_b")
		}
		return v, rows, columns, err
	}
	w1, rows, columns, err := factor("1")
	if err != nil {
		return nil, err
	}
	w2, m, n, err := factor("2")
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(w1)*len(w2))
	width := columns * n
	for a := range rows {
		for i := range m {
			row := out[(a*m+i)*width:]
			for b := range columns {
				f := w1[a*columns+b]
				for j, v := range w2[i*n : (i+1)*n] {
					row[b*n+j] = f * v
				}
			}
		}
	}
	return out, nil
}

// factors is IA3's: W times a factor for each column, or each row.
func (c *change) factors(w []float32) ([]float32, error) {
	f, err := c.values("ia3")
	if err != nil {
		return nil, err
	}
	on, err := c.values("on_input")
	if err != nil {
		return nil, err
	}
	columns := len(w) / c.shape[0]
	area := columns / c.shape[1]
	byColumn := len(f) != c.shape[0] || len(on) > 0 && on[0] != 0 && len(f) == c.shape[1]
	d := make([]float32, len(w))
	for i, v := range w {
		k := i / columns
		if byColumn {
			k = i % columns / area
		}
		d[i] = v * f[k]
	}
	return d, nil
}

// apply changes w by s times the change.
func (c *change) apply(w []float32, s float64) error {
	d, err := c.delta(w)
	if err != nil {
		return err
	}
	if c.kind == setChange {
		s = 1
	}
	if c.parts["dora"] != nil || c.parts["magnitude"] != nil {
		return c.decomposed(w, d, s)
	}
	scale := s * c.scale
	for i, v := range d {
		w[i] = float32(float64(w[i]) + scale*float64(v))
	}
	return nil
}

// decomposed is DoRA (Liu et al. 2024): m·(W+ΔW)/‖W+ΔW‖, with a norm for each row or each column, as m's shape says. PEFT's
// strength is one of ΔW; LyCORIS's is one of the whole change.
func (c *change) decomposed(w, d []float32, s float64) error {
	part, inner, outer := "dora", 1.0, s
	if c.parts["magnitude"] != nil {
		part, inner, outer = "magnitude", s, 1
	}
	m, err := c.values(part)
	if err != nil {
		return err
	}
	columns := len(w) / c.shape[0]
	area := columns / c.shape[1]
	byRow := len(m) == c.shape[0]
	if shape := c.parts[part].Shape(); part == "dora" && byRow && len(shape) > 1 && shape[0] == 1 && len(m) == c.shape[1] {
		byRow = false
	}
	if !byRow && len(m) != c.shape[1] {
		return fmt.Errorf("%d magnitudes for a weight of %v", len(m), c.shape)
	}
	at := func(i int) int {
		if byRow {
			return i / columns
		}
		return i % columns / area
	}
	squares := make([]float64, len(m))
	for i, v := range d {
		x := float64(w[i]) + inner*c.scale*float64(v)
		squares[at(i)] += x * x
	}
	for i, v := range d {
		old, k := float64(w[i]), at(i)
		x := old + inner*c.scale*float64(v)
		if squares[k] > 0 {
			x *= float64(m[k]) / math.Sqrt(squares[k])
		}
		w[i] = float32(old + outer*(x-old))
	}
	return nil
}

// patchedArray is an array with changes. The whole of it is computed when it is first decoded, and kept until Release: a
// packer reads it piece by piece.
type patchedArray struct {
	tensor.Array
	changes []scaledChange

	mu     sync.Mutex
	values []float32
}

func (p *patchedArray) Plain() (t tensor.Tensor, ok bool) { return t, false }

func (p *patchedArray) Decode(dst []float32, start int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.values == nil {
		w := make([]float32, p.Array.Shape().Len())
		if err := p.Array.Decode(w, 0); err != nil {
			return err
		}
		for _, c := range p.changes {
			if err := c.apply(w, c.s); err != nil {
				return err
			}
		}
		p.values = w
	}
	copy(dst, p.values[start:])
	return nil
}

func (p *patchedArray) Release() {
	p.mu.Lock()
	p.values = nil
	p.mu.Unlock()
	p.Array.Release()
}
