package mesh

// windowSize is how many numbers a Window looks back: what a member with 10,000 things to tell of tells in a beat.
const windowSize = 1 << 14

// Window says which numbered tellings of a process were heard, as they may come in another order than they were sent:
// memberlist takes the last of a burst first. A late one may have what no other has, so it counts, but only once, and not
// when 16,384 numbers behind. The zero Window has heard none; numbers begin with 1. It takes 2 kB.
type Window struct {
	last int64
	seen [windowSize / 64]uint64 // a bit for each number up to last, by what is left of it after division by windowSize
}

// Take says whether a number is new, and notes it.
func (w *Window) Take(number int64) bool {
	switch ahead := number - w.last; {
	case ahead <= -windowSize:
		return false
	case ahead >= windowSize:
		w.last, w.seen = number, [windowSize / 64]uint64{}
	case ahead > 0:
		for i := range ahead { // their bits are those of numbers too far behind by now
			word, bit := place(number - i)
			w.seen[word] &^= bit
		}
		w.last = number
	}
	word, bit := place(number)
	if w.seen[word]&bit != 0 {
		return false
	}
	w.seen[word] |= bit
	return true
}

// place is where the bit of a number is.
func place(number int64) (word int, bit uint64) {
	at := uint64(number) % windowSize
	return int(at / 64), 1 << (at % 64)
}
