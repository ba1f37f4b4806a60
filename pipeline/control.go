package pipeline

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"path/filepath"
	"slices"
	"strings"

	"darkroom/checkpoint"
	"darkroom/family"
	"darkroom/imagefile"
	"darkroom/models/library"
	"darkroom/preprocess"
	"darkroom/recipe"
)

// controls are a request's pictures that steer, and the networks that read them.
type controls struct {
	list     []recipe.Control
	film     *film // nil for a picture
	networks []*family.Control
	pictures []*image.NRGBA // at the size of the picture that is made, but for image prompts
	sums     []string       // of the pictures' files
	steered  *family.Steered
	key      string // tells what Prepare makes of the pictures from what it makes of others
	prepared *family.Prepared
}

// steering is the latest denoiser with controls, with what its pictures became: the next request has mostly the same.
type steering struct {
	key         string
	steered     *family.Steered
	networks    map[string]*family.Control // by path and image encoder
	motions     map[string]*family.Motion  // by path
	preparedKey string
	prepared    *family.Prepared
	shown       []shown
}

// shown is a picture that was read and preprocessed.
type shown struct {
	key     string
	picture *image.NRGBA
	sum     string
}

func (s *steering) close() error {
	if s.steered != nil {
		s.steered.Unload()
	}
	var errs []error
	for _, c := range s.networks {
		errs = append(errs, c.Close())
	}
	for _, m := range s.motions {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// loadControls opens the networks and reads the pictures of a request whose size is settled, and what it starts from, or which is
// a film; nil without any.
func (p *Pipeline) loadControls(r *Request, e *edit, f *film) (*controls, error) {
	list, err := recipe.ParseControls(r.Control)
	if err != nil {
		return nil, usagef("--control %w", err)
	}
	if len(list) == 0 && f == nil || p.ReadsControl() { // loadOwnControl's
		return nil, nil
	}
	c := &controls{list: list, film: f}
	key := strings.Builder{}
	key.WriteString(describeFilm(f))
	var uses []family.Steer
	for i := range list {
		if list[i].Model == "" {
			return nil, usagef("--control %s: %w (a picture alone is for models that read one themselves, as FLUX.1 Canny does)", list[i].Image, recipe.ErrNoNetwork)
		}
		use, err := p.openControl(&list[i])
		if err == nil {
			err = p.loadHint(c, list[i], use, r, e)
		}
		if err != nil {
			return nil, usagef("--control %s: %w", library.PartName(list[i].Model), err)
		}
		uses, c.networks = append(uses, use), append(c.networks, use.Control)
		fmt.Fprintf(&key, "%p %v %d\n", use.Control, use.Guess, use.Type)
	}
	if p.steering.key != key.String() {
		var module *family.Motion
		if f != nil {
			module = f.module
		}
		steered, err := p.model.Steer(uses, module, f.count())
		if err != nil {
			return nil, usagef("--control: %w", err)
		}
		c.steered, c.key = steered, key.String()
	} else {
		c.steered, c.key = p.steering.steered, p.steering.key
	}
	if m := c.steered.Multiple(); r.Width%m != 0 || r.Height%m != 0 {
		return nil, usagef("%d×%d pixels: with a T2I-Adapter, sizes must be multiples of %d pixels; the nearest size is %d×%d", r.Width, r.Height, m, nearest(r.Width, m), nearest(r.Height, m))
	}
	return c, nil
}

// openControl finds and opens a network, or takes it from those that are open.
func (p *Pipeline) openControl(c *recipe.Control) (family.Steer, error) {
	use := family.Steer{Guess: c.Guess}
	path, err := library.FindPart(library.Controls, c.Model)
	if err != nil {
		return use, err
	}
	encoder := c.Encoder
	if encoder != "" {
		if encoder, err = library.FindPart(library.Visions, encoder); err != nil {
			return use, fmt.Errorf("encoder: %w", err)
		}
	}
	key := path + "\x00" + encoder
	if use.Control = p.steering.networks[key]; use.Control == nil {
		use.Control, err = p.model.OpenControl(path, family.ControlOptions{Encoder: encoder, Encoders: append([]string{filepath.Join(p.folder, "image_encoder")}, library.Parts(library.Visions)...), HashCache: p.options.HashCache})
		if err != nil {
			return use, err
		}
		if p.steering.networks == nil {
			p.steering.networks = map[string]*family.Control{}
		}
		p.steering.networks[key] = use.Control
	}
	c.Model = path
	isNet := use.Kind == checkpoint.KindControlNet
	switch {
	case c.Guess && !isNet:
		return use, errors.New("guess is for ControlNets")
	case c.Encoder != "" && use.Encoder == "":
		return use, errors.New("encoder is for IP-Adapters")
	case c.Type != "" && use.Types == 0:
		return use, errors.New("type is for Unions, which take several kinds of pictures")
	case use.Types > 0:
		kind := c.Type
		if kind == "" {
			kind = map[string]string{"canny": "canny", "edges": "softedge", "scribble": "scribble", "sketch": "scribble", "tile": "tile"}[c.Pre]
		}
		if kind == "" {
			return use, errors.New("this is a Union: say what its picture is with :type=NAME, such as type=depth")
		}
		use.Type, err = use.HintType(kind)
	}
	return use, err
}

// loadHint reads a picture and makes it ready for its network.
func (p *Pipeline) loadHint(c *controls, use recipe.Control, network family.Steer, r *Request, e *edit) error {
	prompt := network.Kind == checkpoint.KindIPAdapter
	picture, sum, err := p.show(use, prompt, r, e)
	if err != nil {
		return err
	}
	c.pictures, c.sums = append(c.pictures, picture), append(c.sums, sum)
	return nil
}

// show is a picture at the request's size, or of an image prompt at its own, preprocessed. The latest few are remembered: a
// request is looked at several times.
func (p *Pipeline) show(use recipe.Control, own bool, r *Request, e *edit) (*image.NRGBA, string, error) {
	if use.Pre != "" {
		if err := preprocess.Check(use.Pre); err != nil {
			return nil, "", err
		}
	}
	file, err := imagefile.Load(use.Image)
	if err != nil {
		return nil, "", err
	}
	key := fmt.Sprint(file.SHA256, own, use.Pre, use.Low, use.High)
	if !own {
		key += fmt.Sprint(r.Width, r.Height, e.place(r))
	}
	if i := slices.IndexFunc(p.steering.shown, func(s shown) bool { return s.key == key }); i >= 0 {
		return p.steering.shown[i].picture, file.SHA256, nil
	}
	img := imagefile.Flatten(file.Pixels, color.NRGBA{255, 255, 255, 255})
	if !own {
		if r.Resize != "" && !slices.Contains(recipe.Resizes(), r.Resize) {
			return nil, "", fmt.Errorf("--resize %.40q: choose fill, fit or stretch", r.Resize)
		}
		if img, err = e.placed(img, r, use.Pre != ""); err != nil {
			return nil, "", err
		}
	}
	if use.Pre != "" {
		if img, err = preprocess.Apply(use.Pre, img, preprocess.Options{Low: use.Low, High: use.High}); err != nil {
			return nil, "", err
		}
	}
	const kept = 8
	all := append([]shown{{key, img, file.SHA256}}, p.steering.shown...)
	p.steering.shown = all[:min(len(all), kept)]
	return img, file.SHA256, nil
}

// steer makes ready what the plan's denoiser is, and frees what the one before had of its own.
func (p *Pipeline) steer(ctx context.Context, pl *plan) error {
	s := &p.steering
	c := pl.controls
	if c == nil {
		if s.steered != nil {
			s.steered.Unload()
			s.steered, s.key, s.prepared, s.preparedKey = nil, "", nil, ""
		}
		return nil
	}
	if s.steered != c.steered {
		if s.steered != nil {
			s.steered.Unload()
		} else {
			p.model.Denoiser.Part().Close() // its activations
		}
		s.steered, s.key, s.prepared, s.preparedKey = c.steered, c.key, nil, ""
		for _, n := range c.networks {
			n.BeginHash() // for the recipe
		}
		if c.film != nil {
			c.film.module.BeginHash()
		}
	}
	key := fmt.Sprint(pl.latentH, pl.latentW, pl.wrap)
	for i, use := range c.list {
		key += fmt.Sprint("\n", c.sums[i], use.Pre, use.Low, use.High, pl.edit.place(&pl.Request))
	}
	if key != s.preparedKey {
		prepared, err := c.steered.Prepare(ctx, c.pictures, pl.latentH, pl.latentW, pl.wrap)
		if err != nil {
			return fmt.Errorf("--control: %w", err)
		}
		s.prepared, s.preparedKey = prepared, key
	}
	c.prepared = s.prepared
	return nil
}

// strengths are those of the controls at a step of so many, 0 where a control does not steer: as diffusers cuts it.
func (c *controls) strengths(step, steps int) []float64 {
	out := make([]float64, len(c.list))
	for i, use := range c.list {
		n := float64(max(steps, 1))
		if float64(step)/n < use.Start || float64(step+1)/n > use.End {
			continue
		}
		out[i] = use.Scale
	}
	return out
}

// bySteps reports whether some control steers in a part of the steps alone.
func (c *controls) bySteps() bool {
	return slices.ContainsFunc(c.list, func(u recipe.Control) bool { return u.Start > 0 || u.End < 1 })
}

// recorded are the controls as recipes have them, without paths, and their files.
func (c *controls) recorded() (text string, files []recipe.File, err error) {
	if c == nil {
		return "", nil, nil
	}
	list := slices.Clone(c.list)
	add := func(kind, path, hash string) {
		f := recipe.File{Kind: kind, Name: filepath.Base(path), SHA256: hash}
		if !slices.Contains(files, f) {
			files = append(files, f)
		}
	}
	for i := range list {
		u, n := &list[i], c.networks[i]
		hash, err := n.Hash()
		if err != nil {
			return "", nil, err
		}
		add("control", u.Model, hash)
		add("hint", u.Image, c.sums[i])
		if n.Encoder != "" {
			if hash, err = n.EncoderHash(); err != nil {
				return "", nil, err
			}
			add("encoder", n.Encoder, hash)
		}
		u.Model, u.Image = library.PartName(u.Model), filepath.Base(u.Image)
		if u.Encoder != "" {
			u.Encoder = library.PartName(u.Encoder)
		}
	}
	return recipe.FormatControls(list), files, nil
}

// net is the plan's denoiser.
func (p *Pipeline) net(pl *plan) family.Denoiser {
	if pl.controls != nil {
		return pl.controls.steered
	}
	return p.model.Denoiser
}

// networksOf tells requests apart whose control networks differ, without opening files.
func networksOf(r Request) (key string) {
	list, _ := recipe.ParseControls(r.Control) // its mistakes are reported when it is planned
	for _, c := range list {
		key += fmt.Sprintf("\x00%s %s %v %s %s", c.Model, c.Encoder, c.Guess, c.Type, c.Pre)
	}
	return key + "\x00" + r.Motion
}
