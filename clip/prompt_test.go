package clip

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPromptAgainstWebUIAndDiffusers(t *testing.T) {
	toks := map[string]*Tokenizer{}
	lines := 0
	goldenLines(t, "prompts.json.bz2", func(line []byte) {
		var folder, text, cut string
		var window int
		var spans, chunks []json.RawMessage
		var plain []int32
		unpack(t, line, &folder, &text, &window, &spans, &chunks, &plain, &cut)
		lines++
		tok := toks[folder]
		if tok == nil {
			tok = goldenTokenizer(t, folder)
			toks[folder] = tok
		}
		checkSpans(t, text, spans)

		p, err := tok.Prompt(text, Weighted, window)
		if err != nil || len(p.Chunks) != len(chunks) || p.Cut != "" {
			t.Errorf("%s, window %d, %q: %d chunks, cut %q, error %v; want %d chunks", folder, window, text, len(p.Chunks), p.Cut, err, len(chunks))
			return
		}
		for i, c := range p.Chunks {
			checkChunk(t, tok, text, c, chunks[i], window)
		}

		p, err = tok.Prompt(text, Plain, window)
		if err != nil || len(p.Chunks) != 1 || !slices.Equal(p.Chunks[0].IDs, plain) || p.Cut != cut {
			t.Errorf("%s, window %d, plain %q:\n got %v, cut %q, error %v\nwant %v, cut %q", folder, window, text, p.Chunks, p.Cut, err, plain, cut)
		}
	})
	if lines < 800 {
		t.Errorf("only %d golden prompts", lines)
	}
}

func checkSpans(t *testing.T, text string, want []json.RawMessage) {
	t.Helper()
	if want == nil {
		return
	}
	got, err := parseWeighted(text)
	if err != nil || len(got) != len(want) {
		t.Errorf("%q: %d spans %v, error %v; want %d", text, len(got), got, err, len(want))
		return
	}
	for i, s := range got {
		var wantText string
		var weight *float64
		unpack(t, want[i], &wantText, &weight)
		if s.text != wantText || s.isBreak() != (weight == nil) || weight != nil && s.weight != *weight {
			t.Errorf("%q: span %d is %v, want %s", text, i, s, want[i])
		}
	}
}

func checkChunk(t *testing.T, tok *Tokenizer, text string, c Chunk, want json.RawMessage, window int) {
	t.Helper()
	var ids []int32
	var weights []float64
	unpack(t, want, &ids, &weights)
	ok := len(c.IDs) == window && len(c.Weights) == window && c.Tokens == len(weights) && slices.Equal(c.IDs[:len(ids)], ids)
	for i := 0; ok && i < window; i++ {
		w := float32(1)
		if i > 0 && i <= len(weights) {
			w = float32(weights[i-1])
		}
		ok = c.Weights[i] == w && (i < len(ids) || c.IDs[i] == tok.Pad)
	}
	if !ok {
		t.Errorf("%q, window %d:\n got %+v\nwant ids %v, weights %v", text, window, c, ids, weights)
	}
}

func TestApplyWeightsAgainstTorch(t *testing.T) {
	goldenLines(t, "emphasis.json.bz2", func(line []byte) {
		var width int
		var hidden, weights, want []float32
		unpack(t, line, &width, &hidden, &weights, &want)
		ApplyWeights(hidden, weights, width)
		for i := range hidden {
			// Two products, each rounded once, times the rounding of the factor's quotient: 4 · 2⁻²⁴.
			if math.Abs(float64(hidden[i]-want[i])) > 0x1p-22*math.Abs(float64(want[i])) {
				t.Fatalf("width %d, value %d: got %v, want %v", width, i, hidden[i], want[i])
			}
		}
	})
}

func TestApplyWeightsKeepsTheMean(t *testing.T) {
	hidden := []float32{1, 2, 3, 4, 5, 6}
	ApplyWeights(hidden, []float32{1, 2, 0}, 2)
	mean := float32(0)
	for _, v := range hidden {
		mean += v / 6
	}
	if math.Abs(float64(mean-3.5)) > 1e-5 || hidden[4] != 0 || math.Abs(float64(hidden[2]/hidden[0]-6)) > 1e-5 {
		t.Errorf("got %v with mean %v; want mean 3.5, the last token 0 and the second twice as strong", hidden, mean)
	}

	ones := []float32{0.1, 0.7, -3}
	ApplyWeights(ones, []float32{1}, 3)
	if !slices.Equal(ones, []float32{0.1, 0.7, -3}) {
		t.Errorf("weights of 1 changed the states to %v", ones)
	}

	// A mean that is rounding error must not become a factor.
	zeroMean := []float32{1, -1, 0.5, -0.5000001, 2, -2}
	ApplyWeights(zeroMean, []float32{1, 1.5, 1}, 2)
	if zeroMean[0] != 1 || zeroMean[2] != 0.75 {
		t.Errorf("states of mean 0 became %v", zeroMean)
	}
}

func TestAlign(t *testing.T) {
	tok := goldenTokenizer(t, "sd2")
	long, _ := tok.Prompt("a BREAK b BREAK c", Weighted, 7)
	short, _ := tok.Prompt("d", Weighted, 7)
	Align(&long, &short)
	if len(long.Chunks) != 3 || len(short.Chunks) != 3 {
		t.Fatalf("%d and %d chunks, want 3 and 3", len(long.Chunks), len(short.Chunks))
	}
	if want := []int32{tok.Start, tok.End, tok.Pad, tok.Pad, tok.Pad, tok.Pad, tok.Pad}; !slices.Equal(short.Chunks[2].IDs, want) {
		t.Errorf("the shorter one goes on with %v, want %v", short.Chunks[2].IDs, want)
	}
}

func TestReport(t *testing.T) {
	tok := goldenTokenizer(t, "bare")
	p, err := tok.Prompt("a (b:1.5) BREAK [c]", Weighted, 9)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var weights []float32
	for _, r := range tok.Report(p) {
		if p.Chunks[r.Chunk].IDs[r.Position] != r.ID {
			t.Errorf("row %+v does not point at its id", r)
		}
		got, weights = append(got, r.Token), append(weights, r.Weight)
	}
	if s := strings.Join(got, " "); s != "<|startoftext|> a</w> b</w> <|endoftext|> <|startoftext|> c</w> <|endoftext|>" {
		t.Errorf("tokens %s", s)
	}
	if want := []float32{1, 1, 1.5, 1, 1, 1 / 1.1, 1}; !slices.Equal(weights, want) {
		t.Errorf("weights %v, want %v", weights, want)
	}
}

func TestPromptErrors(t *testing.T) {
	tok := goldenTokenizer(t, "bare")
	for name, text := range map[string]string{
		"weight beyond float32": "((a:99999999999999999999999):99999999999999999999999)",
		"endless brackets":      strings.Repeat("(a", 5000),
	} {
		if _, err := tok.Prompt(text, Weighted, 77); err == nil || !strings.Contains(err.Error(), "brackets") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := ParseSyntax("fancy"); err == nil || !strings.Contains(err.Error(), "weighted or plain") {
		t.Errorf("ParseSyntax: error %v", err)
	}
	for _, s := range []Syntax{Weighted, Plain} {
		if got, err := ParseSyntax(s.String()); got != s || err != nil {
			t.Errorf("ParseSyntax(%q) = %v, %v", s, got, err)
		}
	}
}

func TestHostilePrompts(t *testing.T) {
	tok := goldenTokenizer(t, "bare")
	for name, text := range map[string]string{
		"nested":    strings.Repeat("(", 999) + strings.Repeat("(a)b", 1<<14),
		"breaks":    strings.Repeat("BREAK ", 1<<13),
		"colons":    strings.Repeat(":1", 1<<17),
		"spaces":    strings.Repeat(": ", 1<<17),
		"backslash": strings.Repeat(`\`, 1<<18),
		"closed":    strings.Repeat(")", 1<<18),
	} {
		start := time.Now()
		if _, err := tok.Prompt(text, Weighted, 77); err != nil && name != "nested" {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(start); d > 20*time.Second { // less than a second; minutes if quadratic
			t.Errorf("%s: took %v", name, d)
		}
	}
}

func FuzzPrompt(f *testing.F) {
	for _, s := range []string{"", "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", "a BREAK (b BREAK c", `\(\`, "(a:1.2.3) (b: .5 )", "x, " + strings.Repeat("y ", 90)} {
		f.Add(s, uint8(77))
	}
	tok := goldenTokenizer(f, "decoder")
	f.Fuzz(func(t *testing.T, text string, window uint8) {
		n := max(int(window), 3)
		for _, syntax := range []Syntax{Weighted, Plain} {
			p, err := tok.Prompt(text, syntax, n)
			if err != nil {
				continue
			}
			for _, c := range p.Chunks {
				if len(c.IDs) != n || len(c.Weights) != n || c.Tokens > n-2 || c.IDs[0] != tok.Start || c.IDs[c.Tokens+1] != tok.End {
					t.Fatalf("%v, window %d, %q: chunk %+v", syntax, n, text, c)
				}
			}
			if len(p.Chunks) == 0 || len(tok.Report(p)) == 0 {
				t.Fatalf("%v, window %d, %q: nothing", syntax, n, text)
			}
		}
	})
}
