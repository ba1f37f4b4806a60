package render

import (
	"context"
	"errors"

	"darkroom/kernels/cuda"
	"darkroom/pipeline"
)

// Class is what an error means for the picture that met it and for later pictures.
type Class int

const (
	// Again: the picture may succeed on the same device, alone or on another attempt. Errors of no other class are of
	// this one.
	Again Class = iota
	// Elsewhere: this device cannot make the picture, because it is lost or has no room; another may.
	Elsewhere
	// Hopeless: the request itself is wrong, or it was cancelled. No device makes it.
	Hopeless
	// All: every picture would meet the error. No further picture is started.
	All
)

// Classify is the one rule for what an error means.
func Classify(err error) Class {
	var stop *StopError
	var usage *pipeline.UsageError
	switch {
	case errors.As(err, &stop):
		return All
	case errors.As(err, &usage), errors.Is(err, context.Canceled):
		return Hopeless
	case Lost(err), NoRoom(err):
		return Elsewhere
	}
	return Again
}

// Lost reports whether an error means that the device can no longer compute in this process.
func Lost(err error) bool { return cuda.Lost(err) }

// NoRoom reports whether an error means that the device has too little memory for the picture.
func NoRoom(err error) bool {
	var memory *pipeline.MemoryError
	var full *cuda.OutOfMemoryError
	return errors.As(err, &memory) || errors.As(err, &full)
}

// StopError is an error that all pictures would meet, such as a closed stdout.
type StopError struct{ Err error }

func (e *StopError) Error() string { return e.Err.Error() }
func (e *StopError) Unwrap() error { return e.Err }
