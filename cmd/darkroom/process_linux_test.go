package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProgram is the program, in a process of its own, which signals and terminals can reach.
func TestProgram(t *testing.T) {
	var args []string
	if json.Unmarshal([]byte(os.Getenv("DARKROOM_PROGRAM")), &args) != nil {
		t.Skip("run by the tests of processes")
	}
	os.Args = append([]string{"darkroom"}, args...)
	main()
}

// program is the command for a command line.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestProgram$")
	cmd.Env = append(os.Environ(), "DARKROOM_PROGRAM="+string(text), "DARKROOM_HISTORY=off")
	return cmd
}

// SIGHUP, SIGTERM and a second Ctrl-C leave no preview and nothing half written, within a second; nohup is respected.
func TestSignals(t *testing.T) {
	for name, signals := range map[string][]os.Signal{"hup": {syscall.SIGHUP}, "term": {syscall.SIGTERM}, "twice": {os.Interrupt, os.Interrupt}} {
		dir := t.TempDir()
		cmd := program(t, "generate", "x", "--model", tiny, "--steps", "900", "--scheduler", "euler", "--preview", "1", "--count", "4", "-o", filepath.Join(dir, "x.png"))
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stderr)
		for lines.Scan() && !strings.Contains(lines.Text(), ": step ") {
		}
		for begun := time.Now(); files(t, dir) == "" && time.Since(begun) < 10*time.Second; time.Sleep(time.Millisecond) {
		}
		sent := time.Now()
		for _, s := range signals {
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		rest, _ := io.ReadAll(stderr)
		err = cmd.Wait()
		var exit *exec.ExitError
		if took := time.Since(sent); !errors.As(err, &exit) || exit.ExitCode() != 130 || took > 2*time.Second {
			t.Errorf("%s: %v after %v: %s", name, err, took, rest)
		}
		if got := files(t, dir); got != "" {
			t.Errorf("%s: the folder holds %s", name, got)
		}
	}
}

// terminal is a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED: no terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skipf("SKIPPED: no terminals: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Skipf("SKIPPED: no terminals: %v", err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 100}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// screen is what a terminal shows in the end, with what has scrolled away: it understands as much as bars use.
func screen(text string) []string {
	lines, row, col := [][]rune{nil}, 0, 0
	rs := []rune(text)
	for i := 0; i < len(rs); i++ {
		switch c := rs[i]; c {
		case '\r':
			col = 0
		case '\n':
			if row++; row == len(lines) {
				lines = append(lines, nil)
			}
		case '\x1b':
			n, j := 0, i+2
			for ; j < len(rs) && rs[j] >= '0' && rs[j] <= '9'; j++ {
				n = 10*n + int(rs[j]-'0')
			}
			if j < len(rs) {
				switch rs[j] {
				case 'A':
					row = max(row-max(n, 1), 0)
				case 'J':
					lines = lines[:row+1]
					lines[row] = lines[row][:min(col, len(lines[row]))]
				case 'K':
					lines[row] = lines[row][:min(col, len(lines[row]))]
				}
			}
			i = j
		default:
			for len(lines[row]) <= col {
				lines[row] = append(lines[row], ' ')
			}
			lines[row][col] = c
			col++
		}
	}
	var out []string
	for _, l := range lines {
		out = append(out, strings.TrimSpace(string(l)))
	}
	return out
}

// On a terminal that has the results and the bar, every path has a line of its own that stays.
func TestBatchOnATerminal(t *testing.T) {
	const n = 40
	dir := t.TempDir()
	jobs := filepath.Join(dir, "jobs.yaml")
	save(t, jobs, []byte(fmt.Sprintf("- {prompt: a, model: %s, steps: 4, seed: 1..%d, name: 'picture {seed}'}\n", tiny, n)))
	master, slave := terminal(t)
	cmd := program(t, "batch", jobs, "-o", filepath.Join(dir, "out"), "--batch-size", "2")
	cmd.Stdout, cmd.Stderr, cmd.Stdin = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	shown, _ := io.ReadAll(master) // until the program closes it, which is an error here
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, shown)
	}
	found := 0
	for _, line := range screen(string(shown)) {
		if strings.HasPrefix(line, "picture ") && strings.HasSuffix(line, ".png") {
			found++
		}
	}
	if found != n {
		t.Errorf("%d of %d paths are on the screen", found, n)
	}
}

// children are the processes that a process has.
func children(pid int) (all []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		text, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		var child, parent int
		var state string
		if _, err := fmt.Sscanf(string(text[:bytes.IndexByte(text, ' ')]), "%d", &child); err != nil {
			continue
		}
		rest := text[bytes.LastIndexByte(text, ')')+1:]
		if _, err := fmt.Sscan(string(rest), &state, &parent); err == nil && parent == pid {
			all = append(all, child)
		}
	}
	return all
}

// The workers of batch --workers need a token that nobody sees, and end with their parent, whatever ends that.
func TestWorkersEndWithTheirParent(t *testing.T) {
	for name, signals := range map[string][]os.Signal{"killed": {syscall.SIGKILL}, "hup": {syscall.SIGHUP}, "twice": {os.Interrupt, os.Interrupt}} {
		dir := t.TempDir()
		jobs := filepath.Join(dir, "jobs.yaml")
		save(t, jobs, []byte(fmt.Sprintf("- {prompt: a, model: %s, steps: 900, scheduler: euler, seed: 1..200}\n", tiny)))
		cmd := program(t, "batch", jobs, "-o", filepath.Join(dir, "out"), "--workers", "2")
		var errs bytes.Buffer
		cmd.Stderr, cmd.Stdout = &errs, io.Discard
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var all, workers []int // with the queue's server
		for begun := time.Now(); len(workers) < 2 && time.Since(begun) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
			all = children(cmd.Process.Pid)
			workers = slices.DeleteFunc(slices.Clone(all), func(pid int) bool {
				line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				return err != nil || !bytes.Contains(line, []byte("\x00worker\x00"))
			})
		}
		if len(workers) != 2 {
			t.Fatalf("%s: %d workers: %s", name, len(workers), errs.String())
		}
		url := ""
		for _, pid := range workers {
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err != nil {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				t.Fatalf("%s: a worker has ended: %v: %s", name, err, errs.String())
			}
			args := strings.Split(string(line), "\x00")
			url = args[slices.Index(args, "--queue")+1]
		}
		if code, _, errs := command(t, "", "queue", "--queue", url); code != 1 || !strings.Contains(errs, "uthorization") {
			t.Errorf("%s: without a token: exit code %d, %s", name, code, errs)
		}
		for _, s := range signals {
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait()
		for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			left := slices.DeleteFunc(slices.Clone(all), func(pid int) bool {
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				return err != nil || bytes.Contains(status, []byte(") Z "))
			})
			if len(left) == 0 {
				break
			}
			if time.Since(begun) > 5*time.Second {
				t.Errorf("%s: processes %v are left", name, left)
				break
			}
		}
	}
}
