// Package jobs reads job files: YAML, JSON lines and CSV with one schema become a list of images, each with its
// request, its file's name and its hash. Everything that can be wrong without a model is found here, before
// anything is rendered, and said with the line.
//
//	defaults:                     # fields of all jobs
//	  steps: 20
//	variables:
//	  style: [oil painting, photo]
//	jobs:
//	  - prompt: "{a red|a green} apple, ${style}, __light__"
//	    seed: 1..100              # a sweep: one image for each value
//	    cfg: [5, 7.5]             # and each with each of these (sweep: zip pairs them instead)
package jobs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"darkroom/recipe"
)

// Image is one image of a batch.
type Image struct {
	Index    int // from 0, in the order of the file
	Job      int // from 1: the job's number in the file
	Line     int
	Priority string
	Hash     string // of the request
	File     string // slash-separated, below the output folder
	Request  Request
}

// The priorities, from the most urgent.
const (
	High   = "high"
	Normal = "normal"
	Low    = "low"
)

// Priorities lists them in the order in which they are served.
var Priorities = []string{High, Normal, Low}

// Rank is a priority's place among Priorities, -1 for another word.
func Rank(priority string) int { return slices.Index(Priorities, priority) }

// The notations.
const (
	YAML      = "yaml"
	JSONLines = "jsonl"
	CSV       = "csv"
	Prompts   = "txt" // a prompt a line, with options such as --steps 12 after it
)

// Options say how a file is read.
type Options struct {
	// Notation is YAML, JSONLines, CSV or Prompts; "": the one that the file's extension names, and for other files and
	// standard input the one that its first line looks like.
	Notation string
	// Name is the template of files' names for jobs without one; "" is DefaultName.
	Name string
	// Wildcards is the folder of __name__ files; "": the folder wildcards beside the job file, or in the current
	// folder for standard input.
	Wildcards string
	// Base has what a job gets that does not say otherwise: a model, a backend, a type. Over replaces what jobs say.
	Base, Over Request
	// RandomSeeds draws all seeds, whatever the jobs say; Draw is what seeds are drawn from, so that the same file with
	// the same Draw asks for the same pictures.
	RandomSeeds bool
	Draw        uint64
	// Date is the day in names with {date}.
	Date time.Time
	// Pictures says that the files of pictures that jobs name are this machine's: folders and patterns stand for what is in
	// them, and requests hold the hashes of what files hold. Of jobs that come over a network none is looked at.
	Pictures bool
	// Settle gives all settings of a request, its model's own too, for names with {steps} and the like; false where the
	// model cannot be asked. nil: names have what the request says.
	Settle func(*Request) (recipe.Settings, bool)
	// MaxImages bounds what a file may ask for; 0 is the constant MaxImages.
	MaxImages int
	// MaxTexts bounds the bytes of prompts and names that its templates make; 0 is the constant MaxTexts.
	MaxTexts int
}

// List holds the images that a file asks for.
type List struct {
	Images []Image
	// Twice counts repeated requests in the file; each is rendered once.
	Twice int
	// Drawn reports that some seeds were random.
	Drawn bool

	file string // its name, for messages
}

// Check asks of each image what is wrong with it, and returns what it was told, as Errors with the images' lines. Images
// of one group, such as a model that has to be opened, are asked about one after the other.
func (l *List) Check(group func(*Image) string, wrong func(*Image) error) error {
	r := &reporter{file: l.file}
	groups := map[string][]*Image{}
	var order []string
	for i := range l.Images {
		m := &l.Images[i]
		g := group(m)
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], m)
	}
	for _, g := range order {
		for _, m := range groups[g] {
			if r.full() {
				break
			}
			if err := wrong(m); err != nil {
				r.errorf(m.Line, "%v", err)
			}
		}
	}
	slices.SortStableFunc(r.errs, func(a, b *Error) int { return a.Line - b.Line })
	return r.err()
}

// ReadFile reads a job file; "-" is stdin. Mistakes in the file are Errors.
func ReadFile(path string, stdin io.Reader, o Options) (*List, error) {
	name, dir := path, filepath.Dir(path)
	var data []byte
	var err error
	if path == "-" {
		name, dir = "standard input", "."
		data, err = io.ReadAll(io.LimitReader(stdin, MaxFile+1))
	} else {
		data, err = readLimited(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading jobs: %w", err)
	}
	if o.Notation == "" {
		o.Notation = byExtension(path)
	}
	if o.Wildcards == "" {
		o.Wildcards = filepath.Join(dir, "wildcards")
		if _, err := os.Stat(o.Wildcards); errors.Is(err, fs.ErrNotExist) {
			return Parse(name, data, nil, o)
		}
	}
	root, err := os.OpenRoot(o.Wildcards) // links that lead out of it are not followed
	if err != nil {
		return nil, fmt.Errorf("opening the folder of wildcards: %w", err)
	}
	defer root.Close()
	return Parse(name, data, root.FS(), o)
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, fmt.Errorf("%s is a folder: name a file of jobs (.yaml, .jsonl or .csv)", path)
	}
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}

func byExtension(path string) string {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml":
		return YAML
	case ".jsonl", ".ndjson":
		return JSONLines
	case ".csv":
		return CSV
	case ".txt":
		return Prompts
	}
	return ""
}

// Parse reads the text of a job file. name begins its messages; wildcards may be nil.
func Parse(name string, data []byte, wildcards fs.FS, o Options) (*List, error) {
	r := &reporter{file: name}
	text, ok := decode(r, data)
	if !ok {
		return nil, r.err()
	}
	if o.Notation == "" {
		o.Notation = guess(text)
	}
	x := &expander{
		reporter: r, checker: newChecker(), table: specs(),
		templates: &templates{wildcards: wildcards, folder: o.Wildcards, parsed: map[string]template{}, files: map[string][]template{}},
		options:   o, name: or(o.Name, DefaultName), limit: o.MaxImages,
		names: map[string]nameTemplate{}, files: map[string]string{}, seen: map[string]bool{}, sums: map[string]string{}, draws: map[string]int{}, work: maxAllWork, maxTexts: o.MaxTexts,
	}
	if x.templates.folder == "" {
		x.templates.folder = "wildcards"
	}
	if x.maxTexts <= 0 {
		x.maxTexts = MaxTexts
	}
	if x.limit <= 0 {
		x.limit = MaxImages
	}
	if _, err := parseName(x.name); err != nil {
		r.errorf(0, "%v", err)
		return nil, r.err()
	}
	var list []node
	switch o.Notation {
	case YAML:
		n, ok := parseYAML(r, text)
		if ok {
			list = x.document(n)
		}
	case JSONLines:
		list = x.lines(parseJSONLines(r, text))
	case CSV:
		list = parseCSV(r, text)
	case Prompts:
		list = parsePrompts(r, text)
	default:
		return nil, fmt.Errorf("notation %q of jobs: choose %s, %s, %s or %s", o.Notation, YAML, JSONLines, CSV, Prompts)
	}
	for i, n := range list {
		if r.full() {
			break
		}
		if len(n.fields) == 0 {
			r.errorf(n.line, "a job without fields: it needs a prompt")
			continue
		}
		x.job(n, i+1)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	if len(x.out) == 0 {
		r.errorf(0, "there are no jobs in it")
		return nil, r.err()
	}
	return &List{x.out, x.twice, len(x.draws) > 0, name}, nil
}

// decode checks that the file is text, and takes off a byte-order mark.
func decode(r *reporter, data []byte) (string, bool) {
	if len(data) > MaxFile {
		r.errorf(0, "the file has more than %d bytes", MaxFile)
		return "", false
	}
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		r.errorf(0, "the file is UTF-16: save it as UTF-8")
		return "", false
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	for i, line := range bytes.SplitAfter(data, []byte{'\n'}) {
		if at := bytes.IndexByte(line, 0); at >= 0 {
			r.errorf(i+1, "byte %d is NUL: this is not a text file", at+1)
			return "", false
		}
		if !utf8.Valid(line) {
			at := 0
			for at < len(line) {
				c, size := utf8.DecodeRune(line[at:])
				if c == utf8.RuneError && size == 1 {
					break
				}
				at += size
			}
			r.errorf(i+1, "byte %d (0x%02x) is not UTF-8: save the file as UTF-8", at+1, line[at])
			return "", false
		}
	}
	return string(data), true
}

// guess tells the notation of a text from its first line that is not a comment.
func guess(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "//") {
			continue
		}
		if line[0] == '{' {
			return JSONLines
		}
		first, _, comma := strings.Cut(line, ",")
		if slices.Contains(Fields(), normal(strings.Trim(first, "\" "))) && (comma || !strings.Contains(line, ":")) {
			return CSV
		}
		break
	}
	return YAML
}

// document reads the keys of a whole file and returns its jobs.
func (x *expander) document(n node) []node {
	switch n.kind {
	case nullKind:
		return nil
	case listKind: // jobs alone
		return x.objects(n)
	case objectKind:
	default:
		x.errorf(n.line, "a job file is a list of jobs, or an object with \"jobs:\", but this is %v", n.kind)
		return nil
	}
	if !x.isFile(n) { // a single job
		return []node{n}
	}
	var list []node
	seen := map[string]bool{}
	for _, f := range n.fields {
		if seen[f.name] {
			x.errorf(f.line, "%q appears twice", cut(f.name))
		}
		seen[f.name] = true
		switch f.name {
		case "jobs":
			if f.value.kind != listKind {
				x.errorf(f.line, "jobs: it must be a list: put \"- \" before each job")
				continue
			}
			list = x.objects(f.value)
		case "defaults":
			x.setDefaults(f)
		case "variables":
			x.setVariables(f)
		default:
			hint := nearest(f.name, []string{"jobs", "defaults", "variables"})
			if slices.Contains(Fields(), normal(f.name)) {
				hint = ": put it under \"defaults:\" or into a job"
			}
			x.errorf(f.line, "unknown field %q of the file%s", cut(f.name), hint)
		}
	}
	if !seen["jobs"] {
		x.errorf(n.line, "\"jobs:\" is missing")
	}
	return list
}

// isFile tells a file's object from a single job's.
func (x *expander) isFile(n node) bool {
	return slices.ContainsFunc(n.fields, func(f field) bool {
		return f.name == "jobs" || f.name == "defaults" || f.name == "variables"
	}) || !slices.ContainsFunc(n.fields, func(f field) bool { return f.name == "prompt" })
}

func (x *expander) objects(list node) []node {
	for _, n := range list.items {
		if n.kind != objectKind {
			x.errorf(n.line, "a job is an object with fields such as \"prompt:\", but this is %v", n.kind)
		}
	}
	return slices.DeleteFunc(list.items, func(n node) bool { return n.kind != objectKind })
}

// lines takes defaults and variables off the front of JSON lines: {"defaults": {…}, "variables": {…}}.
func (x *expander) lines(list []node) []node {
	jobs := list[:0]
	for _, n := range list {
		head := slices.ContainsFunc(n.fields, func(f field) bool { return f.name == "defaults" || f.name == "variables" })
		if !head {
			jobs = append(jobs, n)
			continue
		}
		if len(jobs) > 0 {
			x.errorf(n.line, "defaults and variables must come before the first job")
		}
		for _, f := range n.fields {
			switch f.name {
			case "defaults":
				x.setDefaults(f)
			case "variables":
				x.setVariables(f)
			default:
				x.errorf(f.line, "field %q is on the same line as defaults or variables: write the job on its own line", cut(f.name))
			}
		}
	}
	return jobs
}

func (x *expander) setDefaults(f field) {
	if f.value.kind != objectKind {
		x.errorf(f.line, "defaults: it must be an object of fields")
		return
	}
	seen := map[string]bool{}
	for _, d := range f.value.fields {
		if seen[normal(d.name)] {
			x.errorf(d.line, "field %q appears twice", cut(d.name))
		}
		seen[normal(d.name)] = true
		if normal(d.name) != "sweep" {
			specOf(x.reporter, x.table, d)
		}
	}
	x.defaults = f.value.fields
}

func (x *expander) setVariables(f field) {
	if f.value.kind != objectKind {
		x.errorf(f.line, "variables: it must be an object: name: text, or name: [text, text]")
		return
	}
	x.templates.variables = map[string]node{}
	for _, v := range f.value.fields {
		if _, twice := x.templates.variables[v.name]; twice {
			x.errorf(v.line, "variable %q appears twice", cut(v.name))
		}
		texts := []node{v.value}
		if v.value.kind == listKind {
			texts = v.value.items
		}
		for _, t := range texts {
			if t.kind != textKind && t.kind != numberKind {
				x.errorf(v.line, "variable %q: it must be text or a list of texts, not %v", cut(v.name), t.kind)
			}
		}
		if len(texts) == 0 {
			x.errorf(v.line, "variable %q: the list is empty", cut(v.name))
		}
		x.templates.variables[v.name] = v.value
	}
}
