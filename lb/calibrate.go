package lb

import (
	"net/netip"

	"anycastle/bpf"
)

const (
	// weightOne is what a weight of 1 in the config is in a slot table.
	weightOne = 1 << 16
	// Chance gives a real its share within about 1/sqrt(2*slots). weigh mends that where it is off by more than a 50th,
	// for shares from a 256th of the slots; it cannot do so for a smaller one, whose slots are too few to count in 50ths.
	tolerance       = 50
	smallestMended  = bpf.Slots / 256
	roundsOfMending = 16
	// A factor stays between 4/5 and 5/4, which no share that is mended has needed.
	leastFactor, mostFactor = weightOne * 4 / 5, weightOne * 5 / 4
)

// weighed is a real of the config on its way into a slot table.
type weighed struct {
	addr   netip.Addr
	weight int // as configured
}

// weigh turns the configured weights of a farm's reals into those that make the share of each, while all take flows, what
// its weight says, within 1/tolerance. It is a function of the reals of the config, not of their states: while a config
// stands, a real that fails, drains or changes its weight moves no slot between others. An edit of the farm may move a
// few: with 100 reals some 100 of 65,536 slots for one that is added.
func weigh(logs *logTable, reals []weighed) []uint32 {
	weights := make([]uint32, len(reals))
	total := 0
	for i, r := range reals {
		weights[i] = uint32(r.weight) * weightOne
		total += r.weight
	}
	if len(reals) < 2 {
		return weights
	}
	factors := make([]uint64, len(reals))
	for i := range factors {
		factors[i] = weightOne
	}
	near := nearWins(logs, reals, weights)
	for range roundsOfMending {
		held := near.count(reals, weights)
		done := true
		for i, r := range reals {
			due := bpf.Slots * r.weight / total
			if due < smallestMended || held[i] == 0 {
				continue
			}
			off := held[i] - due
			if max(off, -off)*tolerance <= due {
				continue
			}
			done = false
			// aim a little inside the tolerance, not at the middle: the less is mended, the less moves with the next edit
			aim := due + due*3/(4*tolerance)
			if off < 0 {
				aim = due - due*3/(4*tolerance)
			}
			factors[i] = min(max(factors[i]*uint64(aim)/uint64(held[i]), leastFactor), mostFactor)
			weights[i] = uint32(uint64(r.weight) * factors[i])
		}
		if done {
			break
		}
	}
	return weights
}

// nearWin is a real that takes a slot with a factor that weigh may give it.
type nearWin struct {
	real int32
	luck uint64
}

// nearWinners are those of each slot.
type nearWinners struct {
	list []nearWin
	ends []int // by slot: where its own end in list
}

func nearWins(logs *logTable, reals []weighed, weights []uint32) nearWinners {
	of := make([]contender, len(reals))
	for i, r := range reals {
		of[i] = newContender(r.addr, 0, weights[i])
	}
	n := nearWinners{ends: make([]int, bpf.Slots)}
	type scored struct {
		nearWin
		score uint64
	}
	var met []scored
	for slot := range n.ends {
		met = met[:0]
		limit, salt := ^uint64(0), salt(slot)
		for i := range of {
			c := &of[i]
			place := c.place(uint16(slot))
			if c.atLeast(place) > limit {
				continue
			}
			luck := c.luck(logs, place, salt)
			if s := c.score(luck); s <= limit {
				met = append(met, scored{nearWin{int32(i), luck}, s})
				limit = min(limit, s/leastFactor*mostFactor+mostFactor)
			}
		}
		for _, m := range met {
			if m.score <= limit {
				n.list = append(n.list, m.nearWin)
			}
		}
		n.ends[slot] = len(n.list)
	}
	return n
}

// count gives the slots that each real holds with the weights.
func (n nearWinners) count(reals []weighed, weights []uint32) []int {
	of := make([]contender, len(reals))
	for i, r := range reals {
		of[i] = newContender(r.addr, 0, weights[i])
	}
	held := make([]int, len(reals))
	from := 0
	for _, to := range n.ends {
		won, best := -1, ^uint64(0)
		for _, m := range n.list[from:to] {
			s := of[m.real].score(m.luck)
			if s < best || s == best && of[m.real].addr.Less(of[won].addr) {
				won, best = int(m.real), s
			}
		}
		held[won]++
		from = to
	}
	return held
}
