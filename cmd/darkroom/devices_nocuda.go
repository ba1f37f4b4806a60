package main

import "errors"

// gpus lists the GPUs, or says why there are none.
func gpus() ([]gpu, error) {
	return nil, errors.New("this program was built without CUDA: build it with -tags cuda")
}
