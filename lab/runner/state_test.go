package runner

import (
	"os"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	line := func(name, state, threads string) string {
		return "42 (" + name + ") " + state + strings.Repeat(" 0", 16) + " " + threads + " 0 777 0 0"
	}
	tests := []struct {
		name  string
		text  string
		start uint64
		ended bool
		fails bool
	}{
		{"running", line("anycastle", "S", "9"), 777, false, false},
		{"name with a parenthesis", line("a) Z (b", "R", "1"), 777, false, false},
		{"ended", line("x", "Z", "1"), 777, true, false},
		{"threads outlive the first", line("x", "Z", "2"), 777, false, false},
		{"cut short", "42 (x) S 0 0", 0, false, true},
		{"no number", strings.Replace(line("x", "S", "1"), "777", "x", 1), 0, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start, ended, err := parseStat(tt.text)
			if start != tt.start || ended != tt.ended || (err != nil) != tt.fails {
				t.Errorf("start %d, ended %v, %v; want %d, %v, failure %v", start, ended, err, tt.start, tt.ended, tt.fails)
			}
		})
	}
}

func TestPidUsedAgainIsNotOurs(t *testing.T) {
	start, _, err := readStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	other := initState{Node: "a", Pid: os.Getpid(), Start: start + 1}
	if other.alive() {
		t.Error("another process passes for an init")
	}
	// had it passed, this would kill the test
	if err := other.kill(t.Context()); err != nil {
		t.Error(err)
	}
}
