package report

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"anycastle/lab/client"
	"anycastle/lab/score"
)

// failure is what failed in a window in one way.
type failure struct {
	What        string // the lane's name
	Error       string
	Count       int
	First, Last time.Duration // since the fault
}

// maxFailures bounds the list of a window; the rest is summed up in a last one.
const maxFailures = 12

// failures joins what failed in a window by kind and error.
func failures(w score.Window, events []client.Event) []failure {
	kinds := map[string]shown{}
	for _, is := range lanesShown() {
		kinds[is.kind] = is
	}
	pods := severalPods(events)
	ports := regexp.MustCompile(`(\d|\]):\d{1,5}->`) // the client's own port is another each time
	by := map[[2]string]*failure{}
	for _, e := range events {
		under := !e.Start.Before(w.From) || !e.End.Before(w.From) // what the fault hit under way is part of it
		if e.OK || !under || !e.Start.Before(w.To) {
			continue
		}
		what := e.Kind
		if is, known := kinds[e.Kind]; known {
			what = is.title(of(e), pods)
		}
		key := [2]string{what, shorten(oneLine(ports.ReplaceAllString(e.Err, "$1->")), 200)}
		at := e.Start.Sub(w.From)
		f := by[key]
		if f == nil {
			f = &failure{What: key[0], Error: key[1], First: at, Last: at}
			by[key] = f
		}
		f.Count++
		f.First, f.Last = min(f.First, at), max(f.Last, at)
	}
	var out []failure
	for _, f := range by {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b failure) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.What, b.What), cmp.Compare(a.Error, b.Error))
	})
	return fold(out)
}

// fold sums up the rarest of too many failures in one.
func fold(list []failure) []failure {
	if len(list) <= maxFailures {
		return list
	}
	byCount := slices.Clone(list)
	slices.SortStableFunc(byCount, func(a, b failure) int { return cmp.Compare(b.Count, a.Count) })
	rest := failure{What: "all else", First: byCount[maxFailures-1].First, Last: byCount[maxFailures-1].Last}
	kept := byCount[:maxFailures-1]
	for _, f := range byCount[maxFailures-1:] {
		rest.Count += f.Count
		rest.First, rest.Last = min(rest.First, f.First), max(rest.Last, f.Last)
	}
	rest.Error = count(int64(len(byCount)-len(kept)), "other errors")
	slices.SortStableFunc(kept, func(a, b failure) int { return cmp.Compare(a.First, b.First) })
	return append(kept, rest)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
