package decide

import (
	"cmp"
	"maps"
	"slices"
)

const (
	thousand = 1000
	// leastHeadroom is what a full answer counts for, so that shares of full ones still have a proportion.
	leastHeadroom = 0.01
)

// first gives all clients to the first answer; the others stand behind it.
func first(names []string) []Share {
	shares := make([]Share, len(names))
	for i, name := range names {
		shares[i].Answer = name
	}
	shares[0].Of1000 = thousand
	return shares
}

// even gives all answers the same share.
func even(names []string) []Share {
	equal := make(map[string]float64, len(names))
	for _, name := range names {
		equal[name] = 1
	}
	return toShares(names, normal(equal))
}

// weights gives the shares, which sum up to 1, by the weights of answers, and by their headroom where it is asked for; what is
// hot has none then beside what serves.
func (d *decider) weights(names []string, headroom bool) map[string]float64 {
	shares := make(map[string]float64, len(names))
	serves := slices.ContainsFunc(names, func(name string) bool { return d.verdicts[name].Place == Serving })
	for _, name := range names {
		shares[name] = float64(d.answer(name).Weight)
		switch v := d.verdicts[name]; {
		case !headroom:
		case serves && v.Place == Hot:
			shares[name] = 0
		default:
			shares[name] *= max(leastHeadroom, v.Headroom)
		}
	}
	return normal(shares)
}

func normal(shares map[string]float64) map[string]float64 {
	sum := 0.0 // in a fixed order, as sums of floating point depend on it
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		sum += shares[name]
	}
	for name := range shares {
		if sum > 0 {
			shares[name] /= sum
		} else {
			shares[name] = 1 / float64(len(shares))
		}
	}
	return shares
}

// leastLoaded gives shares by weights and headroom to answers of one place. Beside those that serve stand those that are hot, until
// all of their share has moved.
func (d *decider) leastLoaded(c *Clause, names []string, old RuleState, next *RuleState) []Share {
	all := names
	if d.verdicts[names[0]].Place == Serving {
		all = d.at(c.Group, Serving, Hot)
	}
	shares := toShares(all, d.slew(c, all, old, next))
	return slices.DeleteFunc(shares, func(s Share) bool { return s.Of1000 == 0 && !slices.Contains(names, s.Answer) })
}

// slew moves the shares of a rule towards what weights and headroom ask for, at most once in a TTL and by no more than the
// config allows. Whoever is gone leaves its share to the others at once.
func (d *decider) slew(c *Clause, names []string, old RuleState, next *RuleState) map[string]float64 {
	if next.Shares != nil { // another place has done so
		return next.Shares
	}
	want := d.weights(names, true)
	have, sum := map[string]float64{}, 0.0
	for _, name := range names {
		if s, ok := old.Shares[name]; ok {
			have[name] = s
			sum += s
		}
	}
	next.SharesAt = old.SharesAt
	switch {
	case sum == 0:
		have, next.SharesAt = want, d.now
	case len(have) < len(old.Shares):
		have = normal(have)
	}
	for _, name := range names {
		if _, ok := have[name]; !ok {
			have[name] = 0
		}
	}
	if !maps.Equal(have, want) && !d.pending(next.SharesAt.Add(c.TTL)) {
		have, next.SharesAt = step(have, want, d.in.Config.Load.Slew), d.now
		if !maps.Equal(have, want) {
			d.wake = append(d.wake, d.now.Add(c.TTL))
		}
	}
	next.Shares = have
	return have
}

// step moves shares towards others so far that no more than limit of all moves.
func step(have, want map[string]float64, limit float64) map[string]float64 {
	moves := 0.0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		moves += max(0, want[name]-have[name])
	}
	if moves <= limit {
		return want
	}
	part := limit / moves
	next := make(map[string]float64, len(want))
	for name, w := range want {
		next[name] = have[name] + part*(w-have[name])
	}
	return next
}

// toShares rounds shares to thousandths such that they sum up to a thousand: the largest remainders are rounded up.
func toShares(names []string, of map[string]float64) []Share {
	shares, left := make([]Share, len(names)), thousand
	rest := make([]int, len(names))
	for i, name := range names {
		shares[i] = Share{name, int(of[name] * thousand)}
		left -= shares[i].Of1000
		rest[i] = i
	}
	remainder := func(i int) float64 { return of[names[i]]*thousand - float64(shares[i].Of1000) }
	slices.SortStableFunc(rest, func(a, b int) int { return cmp.Compare(remainder(b), remainder(a)) })
	for i := 0; left > 0; i++ {
		shares[rest[i%len(rest)]].Of1000++
		left--
	}
	return shares
}
