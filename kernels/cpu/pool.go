//go:build cgo && (linux || darwin || windows) && (amd64 || arm64)

package cpu

// #include "alloc.h"
import "C"

import (
	"fmt"
	"sync"
	"time"
	"unsafe"
)

// pool is a fixed number of workers, of which the caller of run is the first. They sleep between jobs.
type pool struct {
	workers []*worker
	wait    sync.WaitGroup
}

type worker struct {
	work    chan func()
	scratch unsafe.Pointer // memory of its own for the kernels
	size    int
}

func newPool(n int) *pool {
	p := &pool{}
	for i := range n {
		w := &worker{}
		p.workers = append(p.workers, w)
		if i > 0 {
			w.work = make(chan func())
			go func() {
				for f := range w.work {
					f()
					p.wait.Done()
				}
			}()
		}
	}
	return p
}

// run calls f(0) … f(n-1), each on a worker of its own, and returns when all have.
func (p *pool) run(n int, f func(i int)) {
	p.wait.Add(n - 1)
	for i := 1; i < n; i++ {
		p.workers[i].work <- func() { f(i) }
	}
	f(0)
	p.wait.Wait()
}

// timed runs f on all workers and returns the seconds that it took.
func (p *pool) timed(f func(i int)) float64 {
	start := time.Now()
	p.run(len(p.workers), f)
	return time.Since(start).Seconds()
}

// reserve sees to it that the first n workers have so much scratch memory, aligned to a cache line.
func (p *pool) reserve(n, size int) error {
	for _, w := range p.workers[:n] {
		if w.size >= size {
			continue
		}
		w.release()
		if size >= mapped {
			w.scratch = C.map_pages(C.size_t(size))
		} else {
			w.scratch = C.aligned(C.size_t(size))
		}
		if w.scratch == nil {
			return fmt.Errorf("no memory for %d KiB of scratch: close other programs or make a smaller picture", size>>10)
		}
		w.size = size
	}
	return nil
}

func (p *pool) close() {
	for _, w := range p.workers {
		if w.work != nil {
			close(w.work)
		}
		w.release()
	}
}

// release frees the scratch memory.
func (w *worker) release() {
	if w.scratch != nil {
		release(w.scratch, w.size)
	}
	w.scratch, w.size = nil, 0
}
