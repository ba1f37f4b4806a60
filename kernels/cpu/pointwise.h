// What pointwise.go hands to pointwise.c.
#ifndef DARKROOM_POINTWISE_H
#define DARKROOM_POINTWISE_H

#include <stdint.h>

typedef struct {
	const void *a, *b, *scale; // of the activations' type; b and scale may be NULL
	const float *slope;        // NULL for all but PReLU
	void *dst;
	int64_t channels, image; // pixels of an image
	int32_t per_channel;     // scale has a number for each channel of each image
	float factor;
	int32_t act, type; // kernels.Activation, tensor.DType
} pointwise_job;

// pointwise computes the pixels [start, end) of all images.
void pointwise(const pointwise_job *job, int64_t start, int64_t end);

#endif
