package recipe

import (
	"fmt"
	"strconv"
	"strings"
)

// Region is a part of the picture with a prompt of its own.
type Region struct {
	// Area is where: left, right, top, bottom or center, a rectangle x,y,w,h in percent of the picture, or the file of a mask, white
	// where it holds.
	Area   string
	Prompt string
}

// maxRegions bounds what one step asks the model.
const maxRegions = 16

// ParseRegions reads AREA=PROMPT; AREA=PROMPT. A semicolon after a backslash is the character.
func ParseRegions(text string) (list []Region, err error) {
	if text == "" {
		return nil, nil
	}
	for _, word := range splitRegions(text) {
		area, prompt, ok := strings.Cut(word, "=")
		area = strings.TrimSpace(area)
		if prompt = strings.TrimSpace(prompt); !ok || area == "" || prompt == "" {
			return nil, fmt.Errorf("%.60q: write AREA=PROMPT; AREA=PROMPT with an AREA of left, right, top, bottom, center, x,y,w,h in percent, or a mask's file", word)
		}
		if _, _, err := Rectangle(area); err != nil {
			return nil, err
		}
		list = append(list, Region{area, prompt})
	}
	if len(list) > maxRegions {
		return nil, fmt.Errorf("%d regions: at most %d are taken", len(list), maxRegions)
	}
	return list, nil
}

// FormatRegions writes what ParseRegions reads.
func FormatRegions(list []Region) string {
	words := make([]string, len(list))
	for i, r := range list {
		words[i] = r.Area + "=" + strings.ReplaceAll(r.Prompt, ";", `\;`)
	}
	return strings.Join(words, "; ")
}

func splitRegions(text string) (words []string) {
	var word strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == ';':
			word.WriteByte(';')
			i++
		case text[i] == ';':
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteByte(text[i])
		}
	}
	if strings.TrimSpace(word.String()) != "" || len(words) == 0 {
		words = append(words, word.String())
	}
	return words
}

// oneText keeps a text with its commas and semicolons whole.
func oneText(list string) []string { return []string{list} }

// Rectangle is an area's place as shares of the picture, left, top, right and bottom; false for a file.
func Rectangle(area string) (r [4]float64, ok bool, err error) {
	if r, ok := map[string][4]float64{
		"left": {0, 0, 0.5, 1}, "right": {0.5, 0, 1, 1}, "top": {0, 0, 1, 0.5}, "bottom": {0, 0.5, 1, 1}, "center": {0.25, 0.25, 0.75, 0.75},
	}[area]; ok {
		return r, true, nil
	}
	numbers := strings.Split(area, ",")
	if len(numbers) != 4 {
		return r, false, nil
	}
	for i, n := range numbers {
		v, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
		if err != nil {
			return r, false, nil
		}
		if !(v >= 0 && v <= 100) {
			return r, true, fmt.Errorf("%.40q: x, y, width and height are percent of the picture, from 0 to 100", area)
		}
		r[i] = v / 100
	}
	r[2], r[3] = min(r[0]+r[2], 1), min(r[1]+r[3], 1)
	if r[2] <= r[0] || r[3] <= r[1] {
		return r, true, fmt.Errorf("%.40q: the area is empty", area)
	}
	return r, true, nil
}

// ParseToward reads SHARE:PROMPT: how far a picture's prompt goes towards another one; "" is none.
func ParseToward(text string) (share float64, prompt string, err error) {
	if text == "" {
		return 0, "", nil
	}
	number, prompt, ok := strings.Cut(text, ":")
	share, err = strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(share >= 0 && share <= 1) {
		return 0, "", fmt.Errorf("%.40q: write SHARE:PROMPT with a share from 0 to 1, such as 0.3:a dog", text)
	}
	return share, prompt, nil
}

// FormatToward writes what ParseToward reads.
func FormatToward(share float64, prompt string) string { return formatNumber(share) + ":" + prompt }
