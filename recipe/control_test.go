package recipe

import (
	"slices"
	"strings"
	"testing"
)

func TestParseControls(t *testing.T) {
	for text, want := range map[string][]Control{
		"":                  nil,
		"canny=a.png":       {{Model: "canny", Image: "a.png", Scale: 1, End: 1}},
		"n=a.png:scale=0.5": {{Model: "n", Image: "a.png", Scale: 0.5, End: 1}},
		" n = a b.png : start=0.1, end=0.9,guess ; m=c.png;": {
			{Model: "n", Image: "a b.png", Scale: 1, Start: 0.1, End: 0.9, Guess: true}, {Model: "m", Image: "c.png", Scale: 1, End: 1}},
		`C:\nets\x.pth=D:\in.png:pre=canny,low=50,high=150`: {{Model: `C:\nets\x.pth`, Image: `D:\in.png`, Scale: 1, End: 1, Pre: "canny", Low: 50, High: 150}},
		"u=12:30.png:type=depth,scale=-1":                   {{Model: "u", Image: "12:30.png", Scale: -1, End: 1, Type: "depth"}},
		`ip=face.png:encoder=C:\clip,scale=0`:               {{Model: "ip", Image: "face.png", End: 1, Encoder: `C:\clip`}},
		"n=a=b.png":                                         {{Model: "n", Image: "a=b.png", Scale: 1, End: 1}},
		// Without a network.
		"a.png":                   {{Image: "a.png", Scale: 1, End: 1}},
		"a.png:pre=canny,low=50":  {{Image: "a.png", Scale: 1, End: 1, Pre: "canny", Low: 50}},
		"a.png : guess , scale=2": {{Image: "a.png", Scale: 2, End: 1, Guess: true}},
		"=a=b.png:pre=canny":      {{Image: "a=b.png", Scale: 1, End: 1, Pre: "canny"}},
		`D:\in.png:pre=canny`:     {{Image: `D:\in.png`, Scale: 1, End: 1, Pre: "canny"}},
		"12:30.png":               {{Image: "12:30.png", Scale: 1, End: 1}},
	} {
		got, err := ParseControls(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
		again, err := ParseControls(FormatControls(got))
		if err != nil || !slices.Equal(again, got) {
			t.Errorf("%q comes back as %q: %+v, %v", text, FormatControls(got), again, err)
		}
	}
	for text, want := range map[string]string{
		"=":                         "MODEL=IMAGE is needed",
		"n=":                        "MODEL=IMAGE is needed",
		":pre=canny":                "MODEL=IMAGE is needed",
		"a.png:guess=b.png":         "true or false",
		"n=a.png:scael=1":           `no option is called "scael": there are scale, start`,
		"n=a.png:scale=x":           "scale=x: it must be a number",
		"n=a.png:scale=nan":         "it must be a number",
		"n=a.png:scale=1000":        "from -100 to 100",
		"n=a.png:start=0.5,end=0.5": "start comes before end",
		"n=a.png:end=2":             "shares of the steps",
		"n=a.png:guess=maybe":       "true or false",
		"n=a.png:pre=":              "pre has no value",
		"n=a.png:low=9,high=3":      "low not above high",
		"n=a.png;m=b.png:x=1":       "m=b.png:x=1",
	} {
		if _, err := ParseControls(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// FuzzParseControls: what is read is written and read again as it was.
func FuzzParseControls(f *testing.F) {
	for _, s := range []string{"n=a.png", "n=a.png:scale=0.5,guess;m=b.png:pre=canny,low=1", `C:\n=D:\a:b.png:type=1`, "n=a:x=1", ":=:", "a=b:guess:guess", "a.png:pre=canny", "=a=b:scale=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseControls(text)
		if err != nil {
			return
		}
		again, err := ParseControls(FormatControls(got))
		if err != nil || !slices.Equal(again, got) {
			t.Errorf("%q → %+v → %q → %+v, %v", text, got, FormatControls(got), again, err)
		}
	})
}
