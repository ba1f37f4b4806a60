package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	defaults "darkroom/models/default"
	"darkroom/models/library"
	"darkroom/option"
	"darkroom/recipe"

	"github.com/urfave/cli/v2"
)

func completionCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that completes commands, flags and names in a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: `Examples:
   source <(darkroom completion bash)          # or in ~/.bashrc
   source <(darkroom completion zsh)           # or in ~/.zshrc
   darkroom completion fish | source           # or > ~/.config/fish/completions/darkroom.fish`,
		Action: func(c *cli.Context) error {
			shell, err := oneWord(c, "the shell's name (bash, zsh or fish)")
			if err != nil {
				return err
			}
			script, ok := completionScripts[shell]
			if !ok {
				return usagef("completion %q: choose bash, zsh or fish", shell)
			}
			_, err = fmt.Fprint(e.stdout, script)
			return err
		},
	}
}

// The scripts ask the program itself, so they are never out of date: darkroom __complete WORDS, where the last word is the
// one under the cursor. If there is no answer, the shell completes file names.
var completionScripts = map[string]string{
	"bash": `_darkroom() {
	local words IFS=$'\n'
	words=$(darkroom __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	local word="${COMP_WORDS[COMP_CWORD]}"
	[ "$word" = "=" ] && word="" # bash takes NAME=VALUE for three words
	COMPREPLY=($(compgen -W "$words" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//:} # deepcache:every=2 is one word
complete -o default -F _darkroom darkroom
`,
	"zsh": `_darkroom() {
	local -a words
	words=(${(f)"$(darkroom __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	if (( $#words )); then compadd -- $words; else _files; fi
}
compdef _darkroom darkroom
`,
	"fish": `function __darkroom_complete
	set -l words (commandline -opc) (commandline -ct)
	darkroom __complete $words[2..-1] 2>/dev/null
end
complete -c darkroom -a '(__darkroom_complete)'
`,
}

func completeCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:            "__complete",
		Hidden:          true,
		SkipFlagParsing: true,
		HideHelp:        true,
		Action: func(c *cli.Context) error {
			for _, word := range complete(newApp(e).cli.Commands, c.Args().Slice()) {
				if err := println(e.stdout, word); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// complete lists what the last of words may become.
func complete(commands []*cli.Command, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	if len(words) == 1 {
		var names []string
		for _, c := range commands {
			if !c.Hidden {
				names = append(names, c.Name)
			}
		}
		return withPrefix(names, last)
	}
	var cmd *cli.Command
	for _, c := range commands {
		if c.HasName(words[0]) {
			cmd = c
		}
	}
	if cmd == nil {
		return nil
	}
	kinds := flagKinds(cmd.Flags)
	if flag, value, apart := flagBefore(words); flag != "" {
		name, known := ownName(kinds, strings.TrimLeft(flag, "-"))
		if !known || kinds[name] {
			return nil
		}
		values := valuesLike(cmd, name, value)
		for i := range values {
			if !apart {
				values[i] = flag + "=" + values[i]
			}
		}
		return values
	}
	if flag := words[len(words)-2]; strings.HasPrefix(flag, "-") && len(words) > 2 {
		if name, known := ownName(kinds, strings.TrimLeft(flag, "-")); known && !kinds[name] {
			return valuesLike(cmd, name, last)
		}
	}
	if strings.HasPrefix(last, "-") {
		var names []string
		for _, f := range cmd.Flags {
			names = append(names, "--"+f.Names()[0])
		}
		return withPrefix(append(names, "--help"), last)
	}
	switch {
	case len(words) == 2:
		return withPrefix(arguments[cmd.Name], last)
	case len(words) == 3 && cmd.Name == "models" && words[1] == "show":
		return withPrefix(library.Names(), last)
	case cmd.Name == "models" && words[1] == "rm":
		return withPrefix(removable(), last)
	}
	return nil
}

// removable are the names that darkroom models rm takes.
func removable() []string {
	names := slices.DeleteFunc(library.Names(), func(name string) bool { return name == defaults.Name })
	for _, k := range library.Kinds() {
		for _, path := range library.Parts(k) {
			names = append(names, k.Name+":"+library.PartName(path))
		}
	}
	return names
}

// flagBefore is the flag whose value after = is the last word. Bash takes --flag=value for three words (apart).
func flagBefore(words []string) (flag, value string, apart bool) {
	n := len(words)
	last := words[n-1]
	switch {
	case n > 2 && words[n-2] == "=":
		return words[n-3], last, true
	case n > 1 && last == "=":
		return words[n-2], "", true
	case strings.HasPrefix(last, "-") && strings.Contains(last, "="):
		flag, value, _ = strings.Cut(last, "=")
	}
	return flag, value, false
}

// valuesLike are a flag's values that begin with a text: also the last of several with commas, and schedulers with a suffix.
func valuesLike(cmd *cli.Command, flag, text string) []string {
	head := ""
	s, ok := recipe.Lookup(flag)
	if !ok {
		s, _ = recipe.Lookup(strings.TrimSuffix(flag, "s"))
	}
	if i := strings.LastIndex(text, ","); i >= 0 && (flag == "preset" || flag == "style" || cmd.Name == "compare" && s != nil) {
		head, text = text[:i+1], text[i+1:]
	}
	values := flagValues(flag)
	if s != nil && s.Methods != nil {
		values = append(values, methodValues(s.Methods(), text)...)
	}
	if s != nil && s.Name == "scheduler" {
		for _, name := range s.Choices() {
			if strings.HasPrefix(text, name+"-") {
				for _, sigmas := range recipe.SigmaNames() {
					values = append(values, name+"-"+sigmas)
				}
			}
		}
	}
	values = withPrefix(values, text)
	for i := range values {
		values[i] = head + values[i]
	}
	return values
}

// methodValues are the keys that may come after NAME: or after a comma in NAME:key=value,key=value.
func methodValues(methods []option.Info, text string) (values []string) {
	name, keys, ok := strings.Cut(text, ":")
	method, found := option.Find(methods, name)
	if !ok || !found {
		return nil
	}
	head := text[:len(text)-len(keys)+strings.LastIndex(keys, ",")+1]
	for _, k := range method.Keys {
		if !strings.Contains(","+keys, ","+k.Name+"=") {
			values = append(values, head+k.Name+"=")
		}
	}
	return values
}

// arguments are the words that a command's first argument may be.
var arguments = map[string][]string{
	"completion": {"bash", "fish", "zsh"},
	"batch":      {"status", "cancel", "retry", "schema"},
	"history":    {"show"},
	"models":     {"show", "rm"},
	"bench":      benchParts,
}

// flagValues are the names that a flag takes, nil if it takes no names.
func flagValues(flag string) []string {
	switch flag {
	case "model", "refiner", "parts":
		return library.Names()
	case "lora", "embedding", "vae", "text-encoder", "upscaler", "judge", "control":
		return partNames(flag)
	case "preset", "style":
		c, err := readConfig()
		if err != nil {
			return nil
		}
		if flag == "style" {
			return slices.Sorted(maps.Keys(c.Styles))
		}
		return slices.Sorted(maps.Keys(c.Presets))
	case "schedulers":
		flag = "scheduler"
	}
	if s, ok := recipe.Lookup(flag); ok && s.Choices != nil {
		return s.Choices()
	}
	return nil
}

// partNames are the names of the installed files of a kind, which is called as its flag is.
func partNames(kind string) (names []string) {
	for _, k := range library.Kinds() {
		if k.Name == kind {
			for _, path := range library.Parts(k) {
				names = append(names, library.PartName(path))
			}
		}
	}
	return names
}

func withPrefix(words []string, prefix string) []string {
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			out = append(out, w)
		}
	}
	return out
}
