//go:build cuda && linux && (amd64 || arm64)

package drv

/*
#include <cuda.h>
#include <string.h>

static int bytes(CUtensorMapDataType type) { return type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1 : 2; }

// A CUtensorMap is aligned to 64 bytes, which Go does not promise.
static CUresult tiled(void *out, CUtensorMapDataType type, CUdeviceptr at, cuuint64_t columns, cuuint64_t rows, cuuint64_t pitch, cuuint32_t box_rows) {
	CUtensorMap map;
	const cuuint64_t size[] = {columns, rows};
	const cuuint32_t box[] = {128 / bytes(type), box_rows}, step[] = {1, 1};
	CUresult r = cuTensorMapEncodeTiled(&map, type, 2, (void *)at, size, &pitch, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
		CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	memcpy(out, &map, sizeof map);
	return r;
}

static CUresult heads(void *out, CUtensorMapDataType type, CUdeviceptr at, const cuuint64_t *size, cuuint64_t pitch, cuuint32_t rows) {
	CUtensorMap map;
	const cuuint64_t pitches[] = {2 * size[0], pitch, pitch * size[2]};
	const cuuint32_t box[] = {64, 1, rows, 1}, step[] = {1, 1, 1, 1};
	CUresult r = cuTensorMapEncodeTiled(&map, type, 4, (void *)at, size, pitches, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
		CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	memcpy(out, &map, sizeof map);
	return r;
}

static CUresult im2col(void *out, CUtensorMapDataType type, CUdeviceptr at, const cuuint64_t *size, int lower, int upper, cuuint32_t stride, cuuint32_t channels, cuuint32_t places) {
	CUtensorMap map;
	const cuuint64_t pitch[] = {2 * size[0], 2 * size[0] * size[1], 2 * size[0] * size[1] * size[2]};
	const cuuint32_t step[] = {1, stride, stride, 1};
	const int lowers[] = {lower, lower}, uppers[] = {upper, upper};
	CUresult r = cuTensorMapEncodeIm2col(&map, type, 4, (void *)at, size, pitch, lowers, uppers, channels, places, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
		CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	memcpy(out, &map, sizeof map);
	return r;
}
*/
import "C"

import (
	"unsafe"

	"gorgonia.org/cu"
)

// Element is the type of a tensor's values.
type Element C.CUtensorMapDataType

const (
	Half   Element = C.CU_TENSOR_MAP_DATA_TYPE_FLOAT16
	Bfloat Element = C.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
	Byte   Element = C.CU_TENSOR_MAP_DATA_TYPE_UINT8 // for float8: TMA copies, and knows no type of that
)

// TensorMap describes a tensor and the box of it that one copy by TMA brings to shared memory, in rows of
// 128 bytes whose 16-byte chunks are permuted (SWIZZLE_128B). Values outside the tensor are zeros.
type TensorMap [16]uint64

// Matrix is the map of rows that lie `pitch` bytes apart, in boxes of 128 bytes of columns.
func Matrix(e Element, at cu.DevicePtr, columns, rows, pitch, boxRows int) (m TensorMap, err error) {
	err = check("cuTensorMapEncodeTiled", C.tiled(unsafe.Pointer(&m), C.CUtensorMapDataType(e), C.CUdeviceptr(at), C.cuuint64_t(columns), C.cuuint64_t(rows), C.cuuint64_t(pitch), C.cuuint32_t(boxRows)))
	return m, err
}

// Heads is the map of the heads, of 16-bit values, in rows that lie `pitch` bytes apart: a box is 64 columns of one head, of so
// many rows. size is a head's columns, heads, rows, images.
func Heads(e Element, at cu.DevicePtr, size [4]int, pitch, rows int) (m TensorMap, err error) {
	sizes := counts(size)
	err = check("cuTensorMapEncodeTiled", C.heads(unsafe.Pointer(&m), C.CUtensorMapDataType(e), C.CUdeviceptr(at), &sizes[0], C.cuuint64_t(pitch), C.cuuint32_t(rows)))
	return m, err
}

// Places is the map of images [N, H, W, C], of 16-bit values, under a filter that takes every stride-th place: a box is 64
// channels of so many places. size is C, W, H, N. The filter's corner walks, in width and height, from lower to the image's last
// pixel plus upper.
func Places(e Element, at cu.DevicePtr, size [4]int, lower, upper, stride, places int) (m TensorMap, err error) {
	sizes := counts(size)
	err = check("cuTensorMapEncodeIm2col", C.im2col(unsafe.Pointer(&m), C.CUtensorMapDataType(e), C.CUdeviceptr(at), &sizes[0], C.int(lower), C.int(upper), C.cuuint32_t(stride), 64, C.cuuint32_t(places)))
	return m, err
}

func counts(size [4]int) (n [4]C.cuuint64_t) {
	for i := range size {
		n[i] = C.cuuint64_t(size[i])
	}
	return n
}
