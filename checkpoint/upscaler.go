package checkpoint

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// OpenUpscaler opens a file of an upscaler of the ESRGAN kind, by the names of Real-ESRGAN, whatever those of the file are:
// the first ones (model.1.sub.0.RDB1.conv1.0), BSRGAN's (RRDB_trunk.0.RDB1.conv1) or Real-ESRGAN's own. The caller closes the
// source.
func OpenUpscaler(path string) (Weights, *Source, error) {
	s, err := OpenSource(path)
	if err != nil {
		return nil, nil, err
	}
	if d := Describe(s); d.Kind != KindUpscaler {
		s.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, wrongKind(d, "an upscaler"))
	}
	return upscalerNames(s.arrays), s, nil
}

var (
	denseOld   = regexp.MustCompile(`^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)(?:\.0)?\.(weight|bias)$`)
	denseTrunk = regexp.MustCompile(`^RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)\.(weight|bias)$`)
	trunkEnd   = regexp.MustCompile(`^model\.1\.sub\.(\d+)\.(weight|bias)$`)
	later      = regexp.MustCompile(`^model\.(\d+)\.(weight|bias)$`)
)

func upscalerNames(all table) table {
	bare := table{}
	for name, a := range all {
		for _, prefix := range []string{"module.", "netG.", "generator."} {
			name = strings.TrimPrefix(name, prefix)
		}
		bare[name] = a
	}
	// The first names number layers: after the trunk (1) come the doublings, then conv_hr and conv_last.
	var numbers []int
	for name := range bare {
		if m := later.FindStringSubmatch(name); m != nil && m[2] == "weight" {
			n, _ := strconv.Atoi(m[1])
			if n > 1 {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	layer := func(number string) string {
		n, _ := strconv.Atoi(number)
		switch i := slices.Index(numbers, n); {
		case n == 0:
			return "conv_first"
		case i < 0:
			return "model." + number
		case i == len(numbers)-1:
			return "conv_last"
		case i == len(numbers)-2:
			return "conv_hr"
		default:
			return fmt.Sprintf("conv_up%d", i+1)
		}
	}
	out := table{}
	for name, a := range bare {
		switch {
		case denseOld.MatchString(name):
			name = denseOld.ReplaceAllString(name, "body.$1.rdb$2.conv$3.$4")
		case denseTrunk.MatchString(name):
			name = denseTrunk.ReplaceAllString(name, "body.$1.rdb$2.conv$3.$4")
		case trunkEnd.MatchString(name):
			name = trunkEnd.ReplaceAllString(name, "conv_body.$2")
		case later.MatchString(name):
			m := later.FindStringSubmatch(name)
			name = layer(m[1]) + "." + m[2]
		default:
			for from, to := range map[string]string{"trunk_conv.": "conv_body.", "upconv": "conv_up", "HRconv.": "conv_hr."} {
				if rest, ok := strings.CutPrefix(name, from); ok {
					name = to + rest
				}
			}
		}
		out[name] = a
	}
	return out
}
