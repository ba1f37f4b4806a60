package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"darkroom/clip"
	"darkroom/pipeline"
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
		Usage:     "show the tokens, ids and weights that a prompt becomes",
		ArgsUsage: "TEXT",
		Description: `TEXT may be - for stdin. With --json and -, stdin holds one JSON string a line, and each is answered
by a line with the JSON array of its ids: of the raw text, nothing added, nothing cut off.

Examples:
   darkroom tokenize "a (red:1.3) apple"
   darkroom tokenize --model sd15 --prompt-syntax plain "a (red:1.3) apple"
   echo '"a red apple"' | darkroom tokenize --json -`,
		Flags: append(settingFlags("model", "prompt-syntax"), jsonFlag("print one JSON object; with - see above")),
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
	syntax, err := clip.ParseSyntax(o.Syntax)
	if err != nil {
		return usagef("--prompt-syntax: %v", err)
	}
	tokenizer, window, err := openTokenizer(o.Model)
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
	prompt, err := tokenizer.Prompt(o.Text, syntax, window)
	if err != nil {
		return usagef("the prompt: %v", err)
	}
	if prompt.Cut != "" {
		fmt.Fprintf(e.stderr, "warning: the last %d tokens do not fit into %d and were cut off: %s\n", prompt.NumCut, window, prompt.Cut)
	}
	rows := tokenizer.Report(prompt)
	if o.JSON {
		return printTokensJSON(e.stdout, prompt, rows)
	}
	t := newTable(e.stdout)
	t.AppendHeader(table.Row{"chunk", "position", "id", "token", "weight"})
	for _, r := range rows {
		t.AppendRow(table.Row{r.Chunk, r.Position, r.ID, r.Token, r.Weight})
	}
	t.Render()
	return nil
}

// tokenLine is a token of tokenize --json TEXT.
type tokenLine struct {
	Chunk    int     `json:"chunk"`
	Position int     `json:"position"`
	ID       int32   `json:"id"`
	Token    string  `json:"token"`
	Weight   float32 `json:"weight"`
}

func printTokensJSON(w io.Writer, prompt clip.Prompt, rows []clip.Row) error {
	out := struct {
		Chunks int         `json:"chunks"`
		Tokens []tokenLine `json:"tokens"`
		Cut    string      `json:"cut"`
	}{len(prompt.Chunks), []tokenLine{}, prompt.Cut}
	for _, r := range rows {
		out.Tokens = append(out.Tokens, tokenLine{r.Chunk, r.Position, r.ID, r.Token, r.Weight})
	}
	return printJSON(w, out)
}

// openTokenizer opens no more of a model than is needed: the tokenizer, and the length of its window.
func openTokenizer(model string) (*clip.Tokenizer, int, error) {
	path, err := findModel(model)
	if err != nil {
		return nil, 0, err
	}
	folder, err := pipeline.OpenFolder(pipeline.Options{Model: path})
	if err != nil {
		return nil, 0, err
	}
	tokenizer, err := clip.LoadTokenizer(folder.Sub("tokenizer"))
	if err != nil {
		return nil, 0, fmt.Errorf("model %s: %w", folder.Name(), err)
	}
	config, err := folder.Config("text_encoder")
	if err != nil {
		return nil, 0, err
	}
	text, err := clip.ReadTextConfig(config)
	if err != nil {
		return nil, 0, err
	}
	return tokenizer, text.MaxPositionEmbeddings, nil
}

// tokenizeLines answers each line, a JSON string, by a line, the JSON array of its ids.
func tokenizeLines(ctx context.Context, e *env, tokenizer *clip.Tokenizer) error {
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
