package stage

import (
	"context"
	"sync"

	"darkroom/nn"
	"darkroom/tensor"
)

// split divides rows between the part's device and the second one, which has none of a single row.
func (p *Part) split(s nn.Sizes) (here, there nn.Sizes) {
	here, there = s, s
	if !p.PerRow || p.device.Second == nil || s.Rows < 2 {
		there.Rows = 0
		return here, there
	}
	there.Rows = s.Rows / 2
	here.Rows -= there.Rows
	return here, there
}

// onSecond is the part on the second device.
func (p *Part) onSecond() *Part {
	if p.second == nil {
		p.second = p.On(p.device.Second)
	}
	return p.second
}

// readySecond is Ready for the rows of the second device, which may be none.
func (p *Part) readySecond(there nn.Sizes) error {
	if there.Rows == 0 {
		return nil
	}
	return p.onSecond().Ready(there)
}

// NeedSecond is Need on the second device.
func (p *Part) NeedSecond(s nn.Sizes, streamed bool) Need {
	_, there := p.split(s)
	if there.Rows == 0 {
		return Need{}
	}
	return p.onSecond().Need(there, streamed)
}

// whole is the shape for all rows of what has that shape on this device.
func (c *compiled) whole(s tensor.Shape) tensor.Shape {
	if !c.shared() {
		return s
	}
	all := append(tensor.Shape{}, s...)
	all[0] = s[0] / c.rows * c.size.Rows
	return all
}

// here is how many of n values are of this device's rows.
func (c *compiled) here(n int) int { return n / c.size.Rows * c.rows }

// execBoth runs both devices' programs at once. A panic of either is one of the caller.
func (p *Part) execBoth(ctx context.Context) error {
	var there error
	var panicked any
	var wait sync.WaitGroup
	wait.Go(func() {
		defer func() { panicked = recover() }()
		there = p.second.Exec(ctx)
	})
	here := func() error {
		defer wait.Wait()
		return p.program.Run(ctx)
	}()
	if panicked != nil {
		panic(panicked)
	}
	if here != nil {
		return here
	}
	return there
}
