package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"darkroom/family"
	"darkroom/models/library"
	"darkroom/pipeline"
	prompts "darkroom/prompt"
	"darkroom/recipe"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"
)

type tokenizeOptions struct {
	Model  string
	Syntax string
	Text   string // "-": stdin
	JSON   bool
}

func tokenizeCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "tokenize",
		Usage:     "show a prompt's tokens, ids and weights",
		ArgsUsage: "TEXT",
		Description: `TEXT may be - for stdin. With --json and -, stdin holds one JSON string per line. For each, the program
prints the JSON array of the raw text's ids, with nothing added and nothing cut off.

Examples:
   darkroom tokenize "a (red:1.3) apple"
   darkroom tokenize --model sd15 --prompt-syntax plain "a (red:1.3) apple"
   echo '"a red apple"' | darkroom tokenize --json -`,
		Flags: append(settingFlags("model", "prompt-syntax"), jsonFlag("print one JSON object; for - see above")),
		Action: func(c *cli.Context) error {
			text, err := oneWord(c, "the text")
			if err != nil {
				return err
			}
			return tokenize(c.Context, e, tokenizeOptions{c.String("model"), cmp.Or(c.String("prompt-syntax"), recipe.Weighted), text, c.Bool("json")})
		},
	}
}

func tokenize(ctx context.Context, e *env, o tokenizeOptions) error {
	if !slices.Contains(recipe.Syntaxes(), o.Syntax) {
		return usagef("--prompt-syntax %.40q: choose %s", o.Syntax, strings.Join(recipe.Syntaxes(), " or "))
	}
	tokenizer, err := openTokenizer(o.Model)
	if err != nil {
		return err
	}
	if o.JSON && o.Text == "-" {
		return tokenizeLines(ctx, e, tokenizer)
	}
	if o.Text == "-" {
		text, err := io.ReadAll(e.stdin)
		if err != nil {
			return fmt.Errorf("reading stdin: %w", err)
		}
		o.Text = string(text)
	}
	if !utf8.ValidString(o.Text) {
		return usagef("the text is not UTF-8")
	}
	if o.Syntax == recipe.Weighted {
		o.Text = firstText(e, o.Text)
	}
	prompt, err := tokenizer.Read(o.Text, o.Syntax)
	if err != nil {
		return usagef("the prompt: %v", err)
	}
	if prompt.Cut != "" {
		fmt.Fprintf(e.stderr, "warning: the last %d tokens do not fit into %d and were cut off: %s\n", prompt.NumCut, prompt.Window, prompt.Cut)
	}
	for _, w := range prompt.Warnings {
		fmt.Fprintln(e.stderr, "warning: "+printable(w))
	}
	if o.JSON {
		return printTokensJSON(e.stdout, prompt)
	}
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"chunk", "position", "id", "token", "weight"})
	for _, r := range prompt.Rows {
		t.AppendRow(table.Row{r.Chunk, r.Position, r.ID, r.Token, r.Weight})
	}
	t.Render()
	return nil
}

// firstText is what a prompt says at first. If it says something else in other steps, or joins several prompts, the texts are
// listed.
func firstText(e *env, text string) string {
	parts := prompts.Parse(text, prompts.Steps{Count: pipeline.DefaultSteps})
	if len(parts) == 1 && len(parts[0].Texts) == 1 {
		return parts[0].Texts[0].Text
	}
	fmt.Fprintf(e.stderr, "the prompt changes over its %d steps; these are the tokens of the first text:\n", pipeline.DefaultSteps)
	const most = 20 // lines
	lines := 0
	for _, p := range parts {
		for _, t := range p.Texts {
			if lines++; lines <= most {
				fmt.Fprintln(e.stderr, printable(fmt.Sprintf("  up to step %d, weight %v: %s", t.Until, p.Weight, t.Text)))
			}
		}
	}
	if lines > most {
		fmt.Fprintf(e.stderr, "  and %d more\n", lines-most)
	}
	return parts[0].Texts[0].Text
}

// tokenLine is a token of tokenize --json TEXT.
type tokenLine struct {
	Chunk    int     `json:"chunk"`
	Position int     `json:"position"`
	ID       int32   `json:"id"`
	Token    string  `json:"token"`
	Weight   float32 `json:"weight"`
}

func printTokensJSON(w io.Writer, prompt family.Tokens) error {
	out := struct {
		Chunks int         `json:"chunks"`
		Tokens []tokenLine `json:"tokens"`
		Cut    string      `json:"cut"`
	}{prompt.Chunks, []tokenLine{}, prompt.Cut}
	for _, r := range prompt.Rows {
		out.Tokens = append(out.Tokens, tokenLine{r.Chunk, r.Position, r.ID, r.Token, r.Weight})
	}
	return printJSON(w, out)
}

func openTokenizer(model string) (*family.Tokenizer, error) {
	path, err := library.Find(model)
	if err != nil {
		return nil, err
	}
	folder, err := pipeline.OpenFolder(pipeline.Options{Model: path})
	if err != nil {
		return nil, err
	}
	return family.OpenTokenizer(folder)
}

// tokenizeLines answers each line, a JSON string, by a line, the JSON array of its ids.
func tokenizeLines(ctx context.Context, e *env, tokenizer *family.Tokenizer) error {
	in, out := bufio.NewReaderSize(e.stdin, 1<<16), bufio.NewWriterSize(e.stdout, 1<<16)
	for n := 1; ctx.Err() == nil; n++ {
		e.status.set("reading line %d", n)
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return out.Flush()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading stdin: %w", err)
		}
		var text string
		if err := json.Unmarshal(line, &text); err != nil {
			err = fmt.Errorf("stdin, line %d: %.60q is not a JSON string: %w", n, line, err)
			return errors.Join(out.Flush(), err)
		}
		ids := tokenizer.Encode(text)
		if ids == nil {
			ids = []int32{} // [], not null
		}
		if err := json.NewEncoder(out).Encode(ids); err != nil {
			return err
		}
		if in.Buffered() == 0 { // whoever asked may wait for the answer
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}
