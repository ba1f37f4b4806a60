// Pointwise is bound by memory: plain loops that any compiler turns into vectors, for every processor alike.
#include <math.h>
#include <string.h>

#include "jobs.h"
#include "pointwise.h"

enum { RELU = ACT_TANHGEGLU + 1, LEAKY_RELU, PRELU, SOFT_CLIP, TANH }; // the rest of kernels.Activation

#define CHUNK 512 // elements at a time, in the L1 cache

static void widen(const void *from, int64_t at, int n, int32_t type, float *to) {
	if (type == TYPE_F32) {
		memcpy(to, (const float *)from + at, n * sizeof *to);
		return;
	}
	const uint16_t *half = (const uint16_t *)from + at; // bfloat16
	for (int i = 0; i < n; i++) {
		uint32_t bits = (uint32_t)half[i] << 16;
		memcpy(to + i, &bits, sizeof bits);
	}
}

static void narrow(const float *from, void *to, int64_t at, int n, int32_t type) {
	if (type == TYPE_F32) {
		memcpy((float *)to + at, from, n * sizeof *from);
		return;
	}
	uint16_t *half = (uint16_t *)to + at;
	for (int i = 0; i < n; i++) {
		uint32_t bits, nan;
		memcpy(&bits, from + i, sizeof bits);
		nan = (bits & 0x7fffffff) > 0x7f800000; // stays one: its lower bits may be all it has
		bits += 0x7fff + (bits >> 16 & 1);      // to the nearest, ties to even
		half[i] = nan ? 0x7fc0 : bits >> 16;
	}
}

static void activate(float *x, int n, int32_t act, const float *slope) {
	switch (act) {
	case ACT_SILU:
		for (int i = 0; i < n; i++) x[i] = x[i] / (1 + expf(-x[i]));
		break;
	case SOFT_CLIP:
		for (int i = 0; i < n; i++) x[i] = 3 * tanhf(x[i] / 3);
		break;
	case TANH:
		for (int i = 0; i < n; i++) x[i] = tanhf(x[i]);
		break;
	case RELU:
		for (int i = 0; i < n; i++) x[i] = x[i] < 0 ? 0 : x[i];
		break;
	case LEAKY_RELU:
		for (int i = 0; i < n; i++) x[i] = x[i] < 0 ? 0.2f * x[i] : x[i];
		break;
	case PRELU:
		for (int i = 0; i < n; i++) x[i] = x[i] < 0 ? slope[i] * x[i] : x[i];
		break;
	}
}

// span computes neighbouring elements of one image, and of one pixel if there are slopes or a scale for each channel, whose
// first is gate.
static void span(const pointwise_job *j, int64_t from, int64_t to, float factor, const float *slope, int64_t gate) {
	float x[CHUNK], y[CHUNK], z[CHUNK];
	for (int64_t at = from; at < to; at += CHUNK) {
		int n = (int)min64(CHUNK, to - at);
		widen(j->a, at, n, j->type, x);
		if (j->b) {
			widen(j->b, at, n, j->type, y);
			if (j->per_channel) {
				widen(j->scale, gate + (at - from), n, j->type, z);
				for (int i = 0; i < n; i++) x[i] += factor * z[i] * y[i];
			} else {
				for (int i = 0; i < n; i++) x[i] += factor * y[i];
			}
		}
		activate(x, n, j->act, slope ? slope + (at - from) : slope);
		narrow(x, j->dst, at, n, j->type);
	}
}

void pointwise(const pointwise_job *j, int64_t start, int64_t end) {
	while (start < end) {
		int64_t image = start / j->image, stop = min64(end, (image + 1) * j->image);
		float factor = j->factor, scale;
		if (j->scale && !j->per_channel) {
			widen(j->scale, image, 1, j->type, &scale);
			factor *= scale;
		}
		if (j->slope || j->per_channel)
			for (int64_t p = start; p < stop; p++) span(j, p * j->channels, (p + 1) * j->channels, factor, j->slope, image * j->channels);
		else
			span(j, start * j->channels, stop * j->channels, factor, 0, 0);
		start = stop;
	}
}
