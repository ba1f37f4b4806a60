package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MotionFile is a motion module (AnimateDiff), read from a file or a folder.
type MotionFile struct {
	// Config is the folder's config.json; nil for a file, whose shapes say the rest.
	Config *Config
	// Weights are by the names of diffusers' MotionAdapter.
	Weights Weights
	// Levels is how many the U-Net has that it is for; Frames is for how many it was trained, 0 where the file does not say.
	Levels, Frames int

	set *Set
}

// OpenMotion opens a motion module: a folder of diffusers, or a file with its names or those of the original program. Another
// kind of file is an error that says what it is.
func OpenMotion(path, hashCache string) (*MotionFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening the motion module: %w", err)
	}
	m := &MotionFile{}
	all := table{}
	var d Description
	if info.IsDir() {
		folder := &Folder{fsys: os.DirFS(path), name: filepath.Clean(path), dir: path, HashCache: hashCache}
		if !folder.Exists("config.json") {
			if sub := filepath.Join(path, "motion_adapter"); isFile(filepath.Join(sub, "config.json")) {
				return OpenMotion(sub, hashCache)
			}
			return nil, fmt.Errorf("%s: a folder without config.json: name the folder of a MotionAdapter, or a file", path)
		}
		if m.Config, err = folder.Config("."); err != nil {
			return nil, err
		}
		if m.set, err = folder.Weights("."); err != nil {
			return nil, err
		}
		for _, name := range m.set.Names() {
			all[name], _ = m.set.Array(name)
		}
		d = Describe(&Source{name: path, contents: contents{arrays: all}})
	} else {
		s, err := OpenSource(path)
		if err != nil {
			return nil, err
		}
		all, d = s.arrays, Describe(s)
		m.set = newSourceSet("motion", s, all)
		m.set.hashCache = hashCache
	}
	if d.Kind != KindMotion {
		m.set.Close()
		return nil, fmt.Errorf("%s: %w", path, wrongKind(d, "a motion module"))
	}
	own := table{}
	for name, a := range all {
		if renamed := motionName(name); renamed != "" {
			own[renamed] = a
		} else if s := a.Shape(); len(s) == 3 {
			m.Frames = max(m.Frames, s[1]) // [1, frames, width]
		}
	}
	m.Weights, m.Levels = own, len(indices(own.Names(), "down_blocks."))
	return m, nil
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// motionName is an array's name in diffusers; "" of a table of positions, which is computed.
func motionName(name string) string {
	if strings.HasSuffix(name, "pos_encoder.pe") || strings.HasSuffix(name, "pos_embed.pe") {
		return ""
	}
	return motionNames.Replace(strings.TrimPrefix(name, "module."))
}

var motionNames = strings.NewReplacer(".temporal_transformer", "", ".attention_blocks.0.", ".attn1.", ".attention_blocks.1.", ".attn2.",
	".norms.0.", ".norm1.", ".norms.1.", ".norm2.", ".ff_norm.", ".norm3.")

// Hash is the SHA-256 of the file, or of the folder's weights.
func (m *MotionFile) Hash() (string, error) { return m.set.Hash() }

// Close unmaps the file. Its arrays must no longer be used.
func (m *MotionFile) Close() error { return m.set.Close() }

// describeMotion finds motion modules, which are made for the levels of a family's U-Nets.
func describeMotion(_ *Source, t table) (Description, bool) {
	const one = ".motion_modules.0."
	part := func(name string) bool {
		return strings.Contains(name, one) && strings.HasSuffix(name, ".proj_in.weight")
	}
	if !slices.ContainsFunc(t.Names(), part) || t["conv_in.weight"] != nil && t["conv_out.weight"] != nil {
		return Description{}, false
	}
	if t.begins("conv_in.") {
		return Description{Kind: KindOther, What: "a motion module that reads a picture (PIA), which is not supported"}, true
	}
	d := Description{Kind: KindMotion, What: "a motion module", Hint: "give it with --motion, or to darkroom animate"}
	switch len(indices(t.Names(), "down_blocks.")) {
	case 4:
		d.Family = SD1.String()
	case 3:
		d.Family = SDXL.String()
	}
	d.What += forFamily(d.Family)
	return d, true
}
