package imagefile

import (
	"bytes"
	"image"
)

// Grey16 is a picture's brightness, [h,w] from 0 to 255 with all of its 16 bits, where the file has one channel of so many;
// false for other files, which Load reads.
func Grey16(path string) (values []float32, width, height int, ok bool) {
	data, err := readPicture(path)
	if err != nil {
		return nil, 0, 0, false
	}
	if _, _, _, err := Measure(data); err != nil {
		return nil, 0, 0, false
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	grey, ok := img.(*image.Gray16)
	if err != nil || !ok {
		return nil, 0, 0, false
	}
	width, height = grey.Rect.Dx(), grey.Rect.Dy()
	values = make([]float32, 0, width*height)
	for y := range height {
		for x := range width {
			values = append(values, float32(grey.Gray16At(grey.Rect.Min.X+x, grey.Rect.Min.Y+y).Y)/257)
		}
	}
	return values, width, height, true
}
