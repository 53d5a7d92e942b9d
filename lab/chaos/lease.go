package chaos

import (
	"fmt"
	"time"
)

// Sample is what a store said of one LUN: at some moment from Asked to Answered it was active in Term, or not.
type Sample struct {
	LUN, Store      string
	Asked, Answered time.Duration // on one monotonic clock
	Active          bool          // it leads and its lease holds
	Term            uint64
}

// TwoActive finds moments at which two stores were active for one LUN, a line for each. Samples of one store are in order of time.
//
// A sample alone proves nothing, since one may have become active after the other ceased within the same few milliseconds. Two
// samples of a store in the same term show that it was active all the time between them, if no store of a higher term was: so a
// store that is active wholly between them, or in two samples that overlap with those, is one too many. So are two in one term.
func TwoActive(samples []Sample) (found []string) {
	type span struct {
		store    string
		term     uint64
		from, to time.Duration // it was certainly active from the answer to its first sample to the question of its last
	}
	spans := map[string][]span{} // by LUN
	open := map[[2]string]int{}  // by LUN and store: the index of the span that goes on
	for _, s := range samples {
		k := [2]string{s.LUN, s.Store}
		i, going := open[k]
		switch {
		case !s.Active:
			delete(open, k)
		case going && spans[s.LUN][i].term == s.Term:
			spans[s.LUN][i].to = s.Asked
		default:
			spans[s.LUN] = append(spans[s.LUN], span{s.Store, s.Term, s.Answered, s.Asked})
			open[k] = len(spans[s.LUN]) - 1
		}
	}
	for lun, list := range spans {
		for i, a := range list {
			for _, b := range list[i+1:] {
				switch {
				case a.store == b.store:
				case a.term == b.term:
					found = append(found, fmt.Sprintf("%s: %s and %s were both active in term %d", lun, a.store, b.store, a.term))
				case a.from < b.to && b.from < a.to && a.from <= a.to && b.from <= b.to:
					found = append(found, fmt.Sprintf("%s: %s (term %d, %v to %v) and %s (term %d, %v to %v) were active at a time",
						lun, a.store, a.term, a.from, a.to, b.store, b.term, b.from, b.to))
				}
			}
		}
	}
	return found
}
