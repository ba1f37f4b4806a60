package recipe

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Control is a picture that steers the making of another, and the network that reads it: a ControlNet, a T2I-Adapter or an
// IP-Adapter.
type Control struct {
	Model string // a file, a folder or a name; "": the model itself reads the picture
	Image string // a file

	Scale      float64 // how strongly
	Start, End float64 // the part of the steps in which it steers, 0 to 1
	Guess      bool    // a ControlNet alone with the prompt's row, weaker the nearer to the top

	Type    string // of a Union's hint: a name or a number; ""
	Encoder string // an IP-Adapter's image encoder, a file or a folder; "": the one that is found

	Pre       string  // what is done to the picture before: see package preprocess; "": nothing
	Low, High float64 // thresholds of edges; 0: that preprocessor's own
}

// controlKey is an option after a picture.
type controlKey struct {
	name string
	at   func(*Control) any // a pointer
	zero any                // the value that is not written
}

// controlKeys are in the order in which they are written.
var controlKeys = []controlKey{
	{"scale", func(c *Control) any { return &c.Scale }, 1.0},
	{"start", func(c *Control) any { return &c.Start }, 0.0},
	{"end", func(c *Control) any { return &c.End }, 1.0},
	{"guess", func(c *Control) any { return &c.Guess }, false},
	{"type", func(c *Control) any { return &c.Type }, ""},
	{"pre", func(c *Control) any { return &c.Pre }, ""},
	{"low", func(c *Control) any { return &c.Low }, 0.0},
	{"high", func(c *Control) any { return &c.High }, 0.0},
	{"encoder", func(c *Control) any { return &c.Encoder }, ""},
}

// ParseControls reads MODEL=IMAGE[:scale=F,start=F,end=F,guess,type=NAME,pre=NAME,low=F,high=F,encoder=FILE], several with
// semicolons between them. MODEL ends at the first =; a colon that none of these words follows is part of a path. Without a network
// it is IMAGE[:…], or =IMAGE[:…] where the picture's name has an =.
func ParseControls(list string) (all []Control, err error) {
	for _, item := range strings.Split(list, ";") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		c, err := parseControl(item)
		if err != nil {
			return nil, fmt.Errorf("%.120q: %w", item, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// ErrNoNetwork says that a picture alone is not enough.
var ErrNoNetwork = errors.New("MODEL=IMAGE is needed: a network and its picture")

func parseControl(item string) (Control, error) {
	c := Control{Scale: 1, End: 1}
	rest := item
	if model, after, ok := strings.Cut(item, "="); ok && !imageFirst(item) {
		c.Model, rest = strings.TrimSpace(model), after
	}
	var options string
	c.Image, options = cutOptions(rest)
	if c.Image = strings.TrimSpace(c.Image); c.Image == "" {
		return c, ErrNoNetwork
	}
	for _, o := range strings.Split(options, ",") {
		if o = strings.TrimSpace(o); o == "" {
			continue
		}
		key, value, given := strings.Cut(o, "=")
		if err := c.set(strings.TrimSpace(key), strings.TrimSpace(value), given); err != nil {
			return c, err
		}
	}
	switch {
	case c.Start < 0 || c.End > 1 || c.Start >= c.End:
		return c, fmt.Errorf("start %v, end %v: they are shares of the steps, from 0 to 1, and start comes before end", c.Start, c.End)
	case math.Abs(c.Scale) > 100:
		return c, fmt.Errorf("scale %v: it must be from -100 to 100", c.Scale)
	case c.Low < 0 || c.High < 0 || c.High > 0 && c.Low > c.High:
		return c, fmt.Errorf("low %v, high %v: they must not be negative, and low not above high", c.Low, c.High)
	}
	return c, nil
}

// imageFirst reports whether an option comes before the first =, so that what stands before it is no network's name but a picture's.
func imageFirst(item string) bool {
	image, options := cutOptions(item)
	return isControlKey(options) && len(image) < strings.IndexByte(item, '=')
}

// isControlKey reports whether options begin with one that there is.
func isControlKey(options string) bool {
	key, _, _ := strings.Cut(options, "=")
	key, _, _ = strings.Cut(key, ",")
	return slices.ContainsFunc(controlKeys, func(o controlKey) bool { return o.name == strings.TrimSpace(key) })
}

// cutOptions finds the colon before the options: the first one that an option's name follows; failing that, the last one
// that something of that form follows, so that a misspelt name is reported.
func cutOptions(text string) (image, options string) {
	last := -1
	for i := range len(text) {
		if text[i] != ':' {
			continue
		}
		if isControlKey(text[i+1:]) {
			return text[:i], text[i+1:]
		}
		if key, _, given := strings.Cut(text[i+1:], "="); given && !strings.ContainsAny(key, `/\.`) {
			last = i
		}
	}
	if last < 0 {
		return text, ""
	}
	return text[:last], text[last+1:]
}

func (c *Control) set(key, value string, given bool) error {
	for _, k := range controlKeys {
		if k.name != key {
			continue
		}
		switch p := k.at(c).(type) {
		case *string:
			if value == "" {
				return fmt.Errorf("%s has no value", key)
			}
			*p = value
		case *bool:
			if !given {
				value = "true"
			}
			v, err := strconv.ParseBool(value)
			if err != nil {
				return fmt.Errorf("%s=%.40s: it must be true or false", key, value)
			}
			*p = v
		case *float64:
			v, err := strconv.ParseFloat(value, 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("%s=%.40s: it must be a number", key, value)
			}
			*p = v
		}
		return nil
	}
	var names []string
	for _, k := range controlKeys {
		names = append(names, k.name)
	}
	return fmt.Errorf("no option is called %.40q: there are %s", key, strings.Join(names, ", "))
}

// String is what ParseControls reads.
func (c Control) String() string {
	var options []string
	for _, k := range controlKeys {
		switch p := k.at(&c).(type) {
		case *string:
			if *p != k.zero {
				options = append(options, k.name+"="+*p)
			}
		case *bool:
			if *p {
				options = append(options, k.name)
			}
		case *float64:
			if *p != k.zero {
				options = append(options, k.name+"="+formatNumber(*p))
			}
		}
	}
	text := c.Model + "=" + c.Image
	if c.Model == "" && !strings.Contains(c.Image, "=") {
		text = c.Image
	}
	if len(options) > 0 {
		text += ":" + strings.Join(options, ",")
	}
	return text
}

// FormatControls is the inverse of ParseControls.
func FormatControls(all []Control) string {
	texts := make([]string, len(all))
	for i, c := range all {
		texts[i] = c.String()
	}
	return strings.Join(texts, ";")
}
