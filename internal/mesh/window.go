package mesh

// Window says which numbered tellings of a process were heard, as they may come in another order than they were sent:
// memberlist takes the last of a burst first. A late one may have what no other has, so it counts, but only once. The zero
// Window has heard none; numbers begin with 1.
type Window struct {
	last int64
	seen uint64 // bit n: last-n was heard
}

// Take says whether a number is new, and notes it.
func (w *Window) Take(number int64) bool {
	switch ahead := number - w.last; {
	case ahead >= 64:
		w.last, w.seen = number, 1
	case ahead > 0:
		w.last, w.seen = number, w.seen<<ahead|1
	case ahead <= -64 || w.seen&(1<<-ahead) != 0:
		return false
	default:
		w.seen |= 1 << -ahead
	}
	return true
}
