package probe

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestCounter(t *testing.T) {
	for name, tc := range map[string]struct {
		fail, pass int
		results    string // P passes, F fails
		states     string // after each result: p or f, in upper case when it changed
	}{
		"first result decides":        {3, 3, "P", "P"},
		"first failure decides":       {3, 3, "F", "F"},
		"failures in a row":           {2, 2, "PFF", "PpF"},
		"one failure is forgiven":     {2, 2, "PFPFPF", "Pppppp"},
		"passes in a row":             {1, 3, "FPPPP", "FffPp"},
		"a failure starts them again": {1, 3, "FPPFPPP", "FfffffP"},
		"counts of one":               {1, 1, "PFPF", "PFPF"},
		"run does not outlive change": {2, 2, "PFFPFPP", "PpFfffP"},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCounter(tc.fail, tc.pass)
			var got []byte
			for _, r := range tc.results {
				var err error
				if r == 'F' {
					err = errors.New("refused")
				}
				state, changed := c.Add(err)
				letter := state.String()[0]
				if changed {
					letter -= 'a' - 'A'
				}
				got = append(got, letter)
			}
			if string(got) != tc.states {
				t.Errorf("%s gives %s, want %s", tc.results, got, tc.states)
			}
		})
	}
}

func TestStateText(t *testing.T) {
	for _, want := range []State{Unknown, Passing, Failing} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got State
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Errorf("%s is read as %v, %v; want %v", text, got, err, want)
		}
	}
	var s State
	if err := json.Unmarshal([]byte(`"up"`), &s); err == nil {
		t.Error("a state called up is taken")
	}
}
