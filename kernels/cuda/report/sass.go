package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

var (
	function    = regexp.MustCompile(`Function : (\w+)`)
	instruction = regexp.MustCompile(`^\s*/\*([0-9a-f]+)\*/\s+(@!?U?P\d+ )?([A-Z][A-Z0-9_.]*)(.*)`)
	jump        = regexp.MustCompile(`0x([0-9a-f]+)`)
)

// op is an instruction of the machine code.
type op struct {
	at        int64
	name      string
	predicate bool
	target    int64 // of a branch, else -1
}

// loop is the main loop of a kernel: how many instructions a round of it executes where no rare branch is taken,
// and how many of these are on tensor cores.
type loop struct{ path, tensor int }

// mainLoops finds the loop with the most tensor-core instructions of each kernel in a cubin.
func mainLoops(tools, cubin string) (map[string]loop, error) {
	found, err := filepath.Glob(filepath.Join(tools, "venv/lib/python3*/site-packages/nvidia/cu13/bin/cuobjdump"))
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("no cuobjdump in %s", tools)
	}
	sass, err := exec.Command(found[0], "-sass", cubin).Output()
	if err != nil {
		return nil, fmt.Errorf("cuobjdump %s: %w", cubin, err)
	}
	loops := map[string]loop{}
	var kernel string
	var code []op
	finish := func() {
		if kernel != "" {
			loops[kernel] = mainLoop(code)
		}
	}
	for s := bufio.NewScanner(bytes.NewReader(sass)); s.Scan(); {
		line := s.Text()
		if m := function.FindStringSubmatch(line); m != nil {
			finish()
			kernel, code = m[1], nil
			continue
		}
		m := instruction.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		o := op{name: m[3], predicate: m[2] != "", target: -1}
		o.at, _ = strconv.ParseInt(m[1], 16, 64)
		if strings.HasPrefix(o.name, "BRA") {
			o.predicate = o.predicate || o.name != "BRA" // BRA.U and BRA.DIV have their condition among the operands
			if to := jump.FindStringSubmatch(m[4]); to != nil {
				o.target, _ = strconv.ParseInt(to[1], 16, 64)
			}
		}
		code = append(code, o)
	}
	finish()
	return loops, nil
}

func (o op) tensor() bool {
	return strings.HasPrefix(o.name, "HMMA") || strings.HasPrefix(o.name, "HGMMA") || strings.HasPrefix(o.name, "QMMA") || strings.HasPrefix(o.name, "QGMMA")
}

// work is what a round of a main loop cannot leave out.
func (o op) work() bool {
	for _, p := range []string{"HMMA", "HGMMA", "QMMA", "QGMMA", "LDSM", "LDGSTS", "BAR", "LDGDEPBAR"} {
		if strings.HasPrefix(o.name, p) {
			return true
		}
	}
	return false
}

func mainLoop(code []op) (best loop) {
	index := map[int64]int{}
	for i, o := range code {
		index[o.at] = i
	}
	// Of loops within each other, blocks that stay have one over their tiles, the innermost counts: it ends first.
	first, last, most := 0, -1, 0
	for i, o := range code {
		from, ok := index[o.target]
		if !ok || from > i {
			continue
		}
		n := 0
		for _, p := range code[from : i+1] {
			if p.tensor() {
				n++
			}
		}
		if n > most && (last < 0 || from > last) {
			first, last, most = from, i, n
		}
	}
	if last < 0 {
		return loop{}
	}
	// The shortest way from the loop's head to its jump back that skips no work: rare paths are longer.
	const never = 1 << 30
	length := make([]int, last-first+2)
	for i := last; i >= first; i-- {
		length[i-first] = never
		if i == last {
			length[i-first] = 1
			continue
		}
		o := code[i]
		if o.name != "EXIT" && o.name != "RET" && (!strings.HasPrefix(o.name, "BRA") || o.predicate) {
			length[i-first] = length[i+1-first] + 1
		}
		if to, ok := index[o.target]; ok && to > i && to <= last {
			skips := false
			for _, p := range code[i+1 : to] {
				skips = skips || p.work()
			}
			if !skips {
				length[i-first] = min(length[i-first], length[to-first]+1)
			}
		}
	}
	if length[0] >= never {
		return loop{last - first + 1, most}
	}
	return loop{length[0], most}
}
