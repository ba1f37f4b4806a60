package family

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"darkroom/checkpoint"
	"darkroom/nn"
	"darkroom/scheduler"
	"darkroom/unet"
)

// Motion is an open motion module (AnimateDiff): with it, the denoiser makes the frames of a film together.
type Motion struct {
	path   string
	file   *checkpoint.MotionFile
	config unet.MotionConfig
	loader nn.Loader
	hash   func() (string, error)
	hashes sync.WaitGroup // at work
}

// OpenMotion opens a motion module for this model. Weights are mapped, not read.
func (m *Model) OpenMotion(path, hashCache string) (*Motion, error) {
	base, ok := m.Denoiser.(*unetDenoiser)
	if !ok {
		return nil, fmt.Errorf("models of the family %s do not support motion modules", m.Family)
	}
	if base.Extra() > 0 {
		return nil, errors.New("a model that reads a picture beside the latents does not support motion modules")
	}
	file, err := checkpoint.OpenMotion(path, hashCache)
	if err != nil {
		return nil, err
	}
	o := &Motion{path: path, file: file, hash: sync.OnceValues(file.Hash), loader: nn.NewLoader("motion", file.Weights)}
	if o.config, err = motionConfig(file); err == nil {
		_, err = base.net.WithMotion(o.config, o.loader)
	}
	if rest := o.loader.Unused(file.Weights.Names()); err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d of its weights are not known, such as %s: this kind of motion module is not supported", len(rest), strings.Join(rest[:min(len(rest), 3)], ", "))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), o.Close())
	}
	return o, nil
}

// The values of the published modules, whose files do not say them.
const (
	motionHeads  = 8
	motionGroups = 32
	motionFrames = 32
)

func motionConfig(file *checkpoint.MotionFile) (unet.MotionConfig, error) {
	c := unet.MotionConfig{Levels: file.Levels, Frames: file.Frames, Groups: motionGroups}
	if c.Frames == 0 {
		c.Frames = motionFrames
	}
	if file.Config == nil {
		for range c.Levels {
			c.Heads = append(c.Heads, motionHeads)
		}
		return c, nil
	}
	k := file.Config
	k.Ignore("block_out_channels", "motion_layers_per_block", "motion_mid_block_layers_per_block", "motion_transformer_layers_per_block",
		"motion_transformer_layers_per_mid_block", "use_motion_mid_block") // the weights say it
	if k.Has("conv_in_channels") {
		k.Fail("conv_in_channels", "motion modules that read a picture (PIA) are not supported")
	}
	k.Ignore("conv_in_channels")
	c.Heads = k.Ints("motion_num_attention_heads", c.Levels, motionHeads)
	c.Groups = k.IntIn("motion_norm_num_groups", 1, 1<<16, motionGroups)
	c.Frames = k.IntIn("motion_max_seq_length", 2, 1<<14, motionFrames)
	for _, n := range c.Heads {
		if n < 1 || n > 1<<16 {
			k.Fail("motion_num_attention_heads", fmt.Sprintf("%d is not from 1 to 65536", n))
			break
		}
	}
	return c, k.Done()
}

// Frames is the most that the module was trained for.
func (o *Motion) Frames() int { return o.config.Frames }

// Linear reports whether the module was trained with a noise schedule that is linear in β, as all of AnimateDiff's were; those of
// AnimateLCM, whose files no shape tells apart, keep the model's.
func (o *Motion) Linear() bool { return !strings.Contains(strings.ToLower(o.path), "lcm") }

// LinearBetas is a sampling whose noise schedule is linear in β.
func LinearBetas(c scheduler.Config) scheduler.Config {
	c.BetaSchedule, c.TrainedBetas = "linear", nil
	return c
}

// BeginHash computes the hash beside other work, and Hash is the SHA-256 of the module's file.
func (o *Motion) BeginHash()            { o.hashes.Go(func() { _, _ = o.hash() }) }
func (o *Motion) Hash() (string, error) { return o.hash() }

// Close unmaps the file, after the programs were closed.
func (o *Motion) Close() error {
	o.hashes.Wait()
	return o.file.Close()
}
