package main

import (
	"strings"

	"darkroom/recipe"
	"darkroom/similar"

	"github.com/urfave/cli/v2"
)

// arrange puts a command's arguments into the order that urfave/cli understands, which stops looking for flags at the
// first word that is not one and would read flags after a prompt as part of the prompt. The result is the flags, then
// "--", then everything else. A word that looks like a flag but is not one is refused here, with the nearest names.
//
// A value is the word after its flag, whatever it looks like ("-o -", "--eta -1"), unless it is a flag of the
// same command: then the value was forgotten.
func arrange(cmd *cli.Command, args []string) ([]string, error) {
	kinds := flagKinds(cmd.Flags)
	var flags, words []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			words = append(words, arg)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		isSwitch, known := kinds[name]
		if !known {
			own, ok := ownName(kinds, name)
			if !ok {
				return nil, unknownFlag(cmd, arg, name)
			}
			if name, isSwitch, arg = own, kinds[own], "--"+own; hasValue {
				arg += "=" + value
			}
		}
		if name == "help" || name == "h" {
			return []string{"--help"}, nil // whatever else there is
		}
		flags = append(flags, arg)
		if isSwitch || hasValue {
			continue
		}
		if i+1 == len(args) {
			return nil, &usageError{cmd.Name, arg + " needs a value"}
		}
		i++
		next, _, _ := strings.Cut(args[i], "=")
		if _, isFlag := ownName(kinds, strings.TrimLeft(next, "-")); isFlag && strings.HasPrefix(next, "-") {
			return nil, &usageError{cmd.Name, arg + " needs a value, and " + args[i] + " follows it: if that is the value, write " + arg + "=" + args[i]}
		}
		flags = append(flags, args[i])
	}
	return append(append(flags, "--"), words...), nil
}

// ownName is what one of the command's flags is called that other programs spell otherwise: cfg_scale is cfg.
func ownName(kinds map[string]bool, name string) (string, bool) {
	own := strings.ReplaceAll(name, "_", "-")
	if s, ok := recipe.Lookup(name); ok {
		own = s.Name
	}
	_, ok := kinds[own]
	return own, ok
}

// flagKinds maps a command's flag names to whether the flag is a switch, which takes no value.
func flagKinds(flags []cli.Flag) map[string]bool {
	kinds := map[string]bool{"help": true, "h": true}
	for _, f := range flags {
		_, isSwitch := f.(*cli.BoolFlag)
		for _, name := range f.Names() {
			kinds[name] = isSwitch
		}
	}
	return kinds
}

func unknownFlag(cmd *cli.Command, arg, name string) error {
	var names []string
	for n := range flagKinds(cmd.Flags) {
		if len(n) > 1 {
			names = append(names, "--"+n)
		}
	}
	text := arg + " is not a flag of " + cmd.Name + similar.Hint("--"+name, names)
	if takesPrompt(cmd) {
		text += `. A text that begins with a dash goes after "--", or into --prompt=TEXT`
	}
	return &usageError{cmd.Name, text}
}

func takesPrompt(cmd *cli.Command) bool {
	_, ok := flagKinds(cmd.Flags)["prompt"]
	return ok
}
