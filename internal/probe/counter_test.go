package probe

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestCounter(t *testing.T) {
	for name, tc := range map[string]struct {
		fail, pass int
		window     Window
		results    string // P passes, F fails
		states     string // after each result: p or f, in upper case when it changed
	}{
		"first result decides":        {3, 3, Window{}, "P", "P"},
		"first failure decides":       {3, 3, Window{}, "F", "F"},
		"failures in a row":           {2, 2, Window{}, "PFF", "PpF"},
		"one failure is forgiven":     {2, 2, Window{}, "PFPFPF", "Pppppp"},
		"passes in a row":             {1, 3, Window{}, "FPPPP", "FffPp"},
		"a failure starts them again": {1, 3, Window{}, "FPPFPPP", "FfffffP"},
		"counts of one":               {1, 1, Window{}, "PFPF", "PFPF"},
		"run does not outlive change": {2, 2, Window{}, "PFFPFPP", "PpFfffP"},
		"every second one trips":      {3, 2, Window{6, 3}, "PFPFPFPFP", "PppppFfff"},
		"and passes bring it back":    {3, 2, Window{6, 3}, "PFPFPFPPFPFPF", "PppppFfPppppF"},
		"old ones are forgotten":      {9, 1, Window{4, 2}, "PFPPPFPPPFFP", "PpppppppppFP"},
		"the window starts at a pass": {9, 1, Window{4, 2}, "FPFF", "FPpF"},
		"a window of all":             {100, 1, Window{64, 64}, "P" + strings.Repeat("F", 64), "P" + strings.Repeat("p", 63) + "F"},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCounter(tc.fail, tc.pass, tc.window)
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

// model says what a counter of these numbers makes of the results, by looking at all of them each time.
func model(fail, pass int, w Window, results []bool) State {
	state, since := Unknown, 0 // since: the results before it are spent
	for i, failed := range results {
		seen := results[since : i+1]
		inRow, inWindow := 0, 0
		for j := len(seen) - 1; j >= 0 && seen[j] == failed; j-- {
			inRow++
		}
		for j := max(0, len(seen)-w.Size); j < len(seen); j++ {
			if seen[j] {
				inWindow++
			}
		}
		next := state
		switch {
		case state == Unknown && failed, state == Passing && failed && (inRow >= fail || w.Size > 0 && inWindow >= w.Fail):
			next = Failing
		case state == Unknown, state == Failing && !failed && inRow >= pass:
			next = Passing
		}
		if next != state {
			state, since = next, i+1
		}
	}
	return state
}

func TestCounterIsItsModel(t *testing.T) {
	for range 100 {
		fail, pass := 1+rand.IntN(5), 1+rand.IntN(5)
		var w Window
		if rand.IntN(3) > 0 {
			w.Size = 2 + rand.IntN(maxWindow-1)
			w.Fail = 2 + rand.IntN(w.Size-1)
		}
		c := NewCounter(fail, pass, w)
		bad := rand.Float64()
		var results []bool
		before := Unknown
		for range 150 {
			var err error
			if rand.Float64() < bad {
				err = errRefused
			}
			results = append(results, err != nil)
			state, changed := c.Add(err)
			if want := model(fail, pass, w, results); state != want || changed != (want != before) {
				t.Fatalf("fail %d, pass %d, %+v, failures %v: state %v, changed %v; want %v after %v", fail, pass, w, results, state, changed, want, before)
			}
			before = state
		}
	}
}

// Whatever came before, enough of one kind in a row decides, and with a window no service that fails at each second
// probe stays in for longer than the window.
func TestCounterIsDecidedInTheEnd(t *testing.T) {
	for range 300 {
		fail, pass := 1+rand.IntN(100), 1+rand.IntN(100)
		w := Window{Size: 2 + rand.IntN(maxWindow-1)}
		w.Fail = 2 + rand.IntN(w.Size-1)
		c := NewCounter(fail, pass, w)
		for range rand.IntN(200) {
			c.Add([]error{nil, errRefused}[rand.IntN(2)])
		}
		repeat := func(n int, err error) (s State) {
			for range n {
				s, _ = c.Add(err)
			}
			return s
		}
		if s := repeat(pass, nil); s != Passing {
			t.Fatalf("%+v after %d passes in a row", *c, pass)
		}
		if s := repeat(fail, errRefused); s != Failing {
			t.Fatalf("%+v after %d failures in a row", *c, fail)
		}
		repeat(pass, nil)
		if w.Fail > w.Size/2 {
			continue
		}
		var tripped bool
		for range w.Size {
			s, _ := c.Add(errRefused)
			tripped = tripped || s == Failing
			c.Add(nil)
		}
		if !tripped {
			t.Fatalf("%+v has every second probe failing and stays in", *c)
		}
	}
}
