package imagefile

import "image"

// fromYUV converts what golang.org/x/image/webp decodes of a lossy file. Its type image.YCbCr would be read as a JPEG's, whose
// brightness goes from 0 to 255; a WebP's goes from 16 to 235 (RFC 6386, sec. 9.2: ITU-R BT.601). The factors, and the way in which
// colours of half the size are spread over the pixels, are libwebp's.
func fromYUV(img image.Image) image.Image {
	var yuv *image.YCbCr
	alpha := func(x, y int) uint8 { return 255 }
	switch img := img.(type) {
	case *image.YCbCr:
		yuv = img
	case *image.NYCbCrA:
		yuv = &img.YCbCr
		alpha = func(x, y int) uint8 { return img.A[img.AOffset(x, y)] }
	default:
		return img
	}
	b := yuv.Rect
	out := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	wide, tall := (b.Dx()+1)/2, (b.Dy()+1)/2 // of the colours
	for y := range b.Dy() {
		near, far := halves(y, tall)
		for x := range b.Dx() {
			left, right := halves(x, wide)
			spread := func(c []uint8) int {
				n, h := int(c[near*yuv.CStride+left]), int(c[near*yuv.CStride+right])
				v, d := int(c[far*yuv.CStride+left]), int(c[far*yuv.CStride+right])
				return ((n+3*h+3*v+d+8)>>3 + n) >> 1 // 9, 3, 3 and 1 sixteenth
			}
			l, u, v := int(yuv.Y[y*yuv.YStride+x])*19077>>8, spread(yuv.Cb), spread(yuv.Cr)
			p := out.Pix[out.PixOffset(x, y):]
			p[0] = clip(l + v*26149>>8 - 14234)
			p[1] = clip(l - u*6419>>8 - v*13320>>8 + 8708)
			p[2] = clip(l + u*33050>>8 - 17685)
			p[3] = alpha(b.Min.X+x, b.Min.Y+y)
		}
	}
	return out
}

// halves are the colour nearest to pixel i, and the next one on the side to which the pixel lies.
func halves(i, n int) (nearest, next int) {
	nearest = i / 2
	next = nearest - 1 + i%2*2
	return nearest, min(max(next, 0), n-1)
}

// clip rounds off six bits.
func clip(v int) uint8 { return uint8(min(max(v>>6, 0), 255)) }
