// Package simulated is a device that makes a picture of a request's hash in a given time, without a model: for tests
// and measurements of everything around the rendering.
package simulated

import (
	"context"
	"encoding/hex"
	"fmt"
	"image"
	"sync/atomic"
	"time"

	"darkroom/batch/jobs"
	"darkroom/pipeline"
	"darkroom/recipe"
)

// Device is a simulated device. Its picture is a function of the request alone.
type Device struct {
	Name string
	Time time.Duration // an image
	// Fail decides which requests fail; nil: none.
	Fail func(*jobs.Request) error

	Busy     atomic.Int64 // nanoseconds spent rendering
	Rendered atomic.Int64
}

// ModelHash is the hash of no weights.
const ModelHash = "0000000000000000000000000000000000000000000000000000000000000000"

// Render waits, and paints.
func (d *Device) Render(ctx context.Context, q *jobs.Request, ev pipeline.Events) (*pipeline.Image, error) {
	if d.Fail != nil {
		if err := d.Fail(q); err != nil {
			return nil, err
		}
	}
	begun := time.Now()
	defer func() { d.Busy.Add(int64(time.Since(begun))) }()
	const steps = 4
	if ev.Start != nil {
		ev.Start(steps)
	}
	for i := range steps {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Until(begun.Add(d.Time * time.Duration(i+1) / steps))):
		}
		if ev.Step != nil {
			ev.Step(i + 1)
		}
	}
	d.Rendered.Add(1)
	return Paint(q), nil
}

// Device is the device's name.
func (d *Device) Device() string { return fmt.Sprintf("simulated:%s", d.Name) }

// Paint is the picture of a request: 8×4 pixels of its hash.
func Paint(q *jobs.Request) *pipeline.Image {
	sum, err := hex.DecodeString(q.Hash())
	if err != nil {
		panic("simulated: a hash that is not hexadecimal: " + err.Error())
	}
	img := image.NewNRGBA(image.Rect(0, 0, 8, 4))
	for i := range 32 {
		img.Pix[4*i], img.Pix[4*i+1], img.Pix[4*i+2], img.Pix[4*i+3] = sum[i], sum[(i+1)%32], sum[(i+2)%32], 255
	}
	r := recipe.Recipe{
		Version: "simulated", Numerics: pipeline.Numerics, Prompt: q.Prompt, PromptSyntax: "weighted", Seed: q.Seed, Noise: "torch-cpu",
		Width: 8, Height: 4, Steps: 4, Scheduler: "none", CFG: 1, Model: "simulated", ModelHash: ModelHash, DType: "fp32", Backend: "simulated",
	}
	r.Result.Pixels = recipe.HashPixels(img)
	return &pipeline.Image{Pixels: img, Recipe: r}
}
