package jobs

// kind is what a value of a job file is.
type kind int

const (
	nullKind kind = iota
	boolKind
	numberKind // text as written
	textKind
	cellKind // of a CSV file, which knows no types: text, or the number that it spells
	listKind
	objectKind
)

func (k kind) String() string {
	return [...]string{"empty", "true or false", "a number", "text", "text", "a list", "an object"}[k]
}

// node is a value of a job file, whichever notation it was written in.
type node struct {
	kind   kind
	line   int
	text   string
	items  []node
	fields []field // in the order of the file
}

// field is a named value of an object.
type field struct {
	name  string
	line  int
	value node
}

// Limits of a job file: generous for people and programs, small beside a machine's memory.
const (
	MaxFile   = 256 << 20 // bytes of JSON lines or CSV
	MaxYAML   = 8 << 20   // bytes: its parser holds a hundred times as much
	MaxImages = 1_000_000 // that a file may ask for
	MaxTexts  = 256 << 20 // bytes that prompts and names made from templates may take together
	MaxPrompt = 64 << 10  // bytes of one prompt, templates filled in
	maxDepth  = 32        // of lists and objects within each other
	maxLine   = 1 << 20   // bytes of a line of JSON
)
