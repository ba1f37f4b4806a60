package jobs

import (
	"fmt"
	"regexp"
	"strings"

	"darkroom/recipe"
)

// parsePrompts reads a prompt a line, as AUTOMATIC1111's "Prompts from file" does: empty lines and lines that begin with #
// are left out, and a line may have options, which hold for it alone:
//
//	a red apple
//	a red apple --steps 12 --seed 7
//	--prompt "a red apple" --negative_prompt "leaf, stem" --sampler_name "DPM++ 2M Karras" --cfg_scale 5
func parsePrompts(r *reporter, text string) []node {
	var all []node
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if len(line) > maxLine {
			r.errorf(n, "a line of %d bytes: at most %d are read", len(line), maxLine)
			continue
		}
		job, err := promptLine(line, n)
		if err != nil {
			r.errorf(n, "%v", err)
		} else {
			all = append(all, job)
		}
		if r.full() {
			break
		}
	}
	return all
}

// option is where a line's options begin.
var option = regexp.MustCompile(`(^|\s)--[A-Za-z]`)

func promptLine(line string, n int) (node, error) {
	job := node{kind: objectKind, line: n}
	set := func(name, value string) {
		job.fields = append(job.fields, field{name, n, node{kind: cellKind, line: n, text: value}})
	}
	prompt, options := line, ""
	if at := option.FindStringIndex(line); at != nil {
		prompt, options = strings.TrimSpace(line[:at[0]]), line[at[0]:]
	}
	words, err := shellWords(options)
	if err != nil {
		return job, err
	}
	if prompt != "" {
		set("prompt", prompt)
	}
	count := ""
	for len(words) > 0 {
		name, isOption := strings.CutPrefix(words[0], "--")
		if !isOption {
			return job, fmt.Errorf("%q is where an option such as --steps is expected: put quotes around a value of several words", cut(words[0]))
		}
		name, value, has := strings.Cut(name, "=")
		words = words[1:]
		if !has {
			if len(words) == 0 {
				return job, fmt.Errorf("--%s has no value", cut(name))
			}
			value, words = words[0], words[1:]
			if name == "prompt" || normal(name) == "negative" { // as many words as there are
				for len(words) > 0 && !strings.HasPrefix(words[0], "--") {
					value, words = value+" "+words[0], words[1:]
				}
			}
		}
		switch known, ok := recipe.Lookup(name); {
		case name == "n_iter" || name == "batch_size" || name == "count":
			if count != "" {
				return job, fmt.Errorf("--%s: the number of pictures appears twice: give one of n_iter, batch_size and count", name)
			}
			count = value
			set("count", value)
		case name == "sd_model":
			set("model", value)
		case strings.HasPrefix(name, "do_not_save_"): // grids and samples of that program
		case ok && known.Name == "scheduler":
			setSampler(set, value)
		case ok:
			set(known.Name, value)
		default:
			return job, fmt.Errorf("unknown option --%s%s", cut(name), nearest(normal(name), Fields()))
		}
	}
	return job, nil
}

// setSampler takes the names of this program and of others: "DPM++ 2M Karras".
func setSampler(set func(name, value string), value string) {
	scheduler, sigmas, ok := recipe.FromForeign(value, "")
	if !ok {
		scheduler = value // which the check refuses, with the nearest names
	}
	set("scheduler", scheduler)
	if sigmas != "" {
		set("sigmas", sigmas)
	}
}

// shellWords takes a line apart as a POSIX shell does, without its variables and patterns.
func shellWords(line string) (words []string, err error) {
	var word strings.Builder
	inWord := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		case c == '\'' || c == '"':
			inWord = true
			end := i + 1
			for ; end < len(line) && line[end] != c; end++ {
				if c == '"' && line[end] == '\\' && end+1 < len(line) && (line[end+1] == '"' || line[end+1] == '\\') {
					end++
				}
				word.WriteByte(line[end])
			}
			if end == len(line) {
				return nil, fmt.Errorf("a quote %c does not end", c)
			}
			i = end
		default:
			inWord = true
			word.WriteByte(c)
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
