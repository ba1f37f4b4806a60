package imagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/draw"
)

// firstFrame takes an animated WebP's first frame apart: a file of that frame alone, and where it lies on the canvas
// (RFC 9649, sec. 2.7.1.1). canvas is empty if the file is not animated.
func firstFrame(data []byte) (still []byte, at image.Point, canvas image.Rectangle, err error) {
	for kind, chunk := range webpChunks(data) {
		switch kind {
		case "VP8X":
			const animated = 1 << 1
			if len(chunk) < 10 || chunk[0]&animated == 0 {
				return data, at, canvas, nil
			}
			canvas = image.Rect(0, 0, int(get24(chunk[4:]))+1, int(get24(chunk[7:]))+1)
		case "VP8 ", "VP8L":
			return data, at, image.Rectangle{}, nil
		case "ANMF":
			if len(chunk) < 16 || canvas.Empty() {
				return nil, at, canvas, errors.New("the WebP's first frame is cut off")
			}
			at = image.Pt(2*int(get24(chunk)), 2*int(get24(chunk[3:])))
			head := make([]byte, 10)
			copy(head[4:], chunk[6:12]) // the frame's size is written as a canvas's is
			var body bytes.Buffer
			body.WriteString("WEBP")
			var image bytes.Buffer
			for kind, part := range riffChunks(chunk[16:]) {
				switch kind {
				case "ALPH":
					head[0] |= 1 << 4
					writeRIFFChunk(&image, kind, part)
				case "VP8 ", "VP8L":
					writeRIFFChunk(&image, kind, part)
				}
			}
			writeRIFFChunk(&body, "VP8X", head)
			body.Write(image.Bytes())
			return append(riffHead(body.Len()), body.Bytes()...), at, canvas, nil
		}
	}
	if !canvas.Empty() {
		return nil, at, canvas, errors.New("the WebP is animated and has no frame")
	}
	return data, at, canvas, nil
}

// onCanvas puts the first frame where it belongs; what it does not cover is transparent.
func onCanvas(frame image.Image, at image.Point, canvas image.Rectangle) image.Image {
	if canvas.Empty() || at == (image.Point{}) && frame.Bounds().Size() == canvas.Size() {
		return frame
	}
	out := image.NewNRGBA(canvas)
	draw.Draw(out, frame.Bounds().Sub(frame.Bounds().Min).Add(at), frame, frame.Bounds().Min, draw.Src)
	return out
}

// webpChunks yields the chunks of a WebP file, as far as they are whole.
func webpChunks(data []byte) func(yield func(kind string, chunk []byte) bool) {
	return riffChunks(data[min(12, len(data)):])
}

func riffChunks(rest []byte) func(yield func(kind string, chunk []byte) bool) {
	return func(yield func(string, []byte) bool) {
		for len(rest) >= 8 {
			size := int64(binary.LittleEndian.Uint32(rest[4:]))
			if size > int64(len(rest)-8) || !yield(string(rest[:4]), rest[8:8+size]) {
				return
			}
			rest = rest[min(int64(len(rest)), 8+size+size%2):]
		}
	}
}
