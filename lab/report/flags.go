package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"anycastle/lab/events"
	"anycastle/lab/score"
)

// flag is a moment that is marked in a timeline.
type flag struct {
	at   float64 // seconds from the fault
	text string
	done bool // by the lab, and not said by a node
}

// The most flags of a timeline, and of those what was done to the lab.
const (
	maxFlags = 12
	maxDone  = 7
)

// Nodes that see the same within sameMoment have one flag, and so have the things that one node says within oneBreath.
const (
	sameMoment = time.Second
	oneBreath  = 300 * time.Millisecond
)

// flags picks what is worth a flag in what is drawn.
func flags(s scale, marks []score.Mark, said []events.Event) []flag {
	var out []flag
	for _, m := range marks {
		if at := s.of(m.At); at >= s.from && at <= s.to && len(out) < maxDone {
			out = append(out, flag{at, shorten(m.Text, maxFlagText), true})
		}
	}
	for _, g := range pick(group(said), maxFlags-len(out)) {
		if at := s.of(g.at); at >= s.from && at <= s.to {
			out = append(out, flag{at: at, text: shorten(g.text(), maxFlagText)})
		}
	}
	sortFlags(out)
	return out
}

func sortFlags(list []flag) {
	slices.SortStableFunc(list, func(a, b flag) int { return cmp.Compare(a.at, b.at) })
}

// maxFlagText is the most characters of a flag.
const maxFlagText = 50

// said is an event with those that say the same.
type said struct {
	at    time.Time
	kind  events.Kind
	label string
	nodes []string
	more  int // other things that the node said in the same breath
}

func (g said) text() string {
	text := g.label
	if g.more > 0 {
		text += fmt.Sprintf(" +%d", g.more)
	}
	if len(g.nodes) == 1 {
		return g.nodes[0] + ": " + text
	}
	if named := text + " (" + strings.Join(g.nodes, ", ") + ")"; len(g.nodes) == 2 && len(named) <= maxFlagText {
		return named
	}
	return fmt.Sprintf("%s (%d nodes)", text, len(g.nodes))
}

// group joins important events, by time, first across nodes and then within one.
func group(list []events.Event) []said {
	var same []said
	last := map[string]int{} // of those that say the same
	for _, e := range list {
		if !e.Important {
			continue
		}
		key := string(e.Kind) + " " + e.Label
		i, ok := last[key]
		switch {
		case !ok || e.Time.Sub(same[i].at) > sameMoment:
			last[key] = len(same)
			same = append(same, said{at: e.Time, kind: e.Kind, label: e.Label, nodes: []string{e.Node}})
		case !slices.Contains(same[i].nodes, e.Node):
			same[i].nodes = append(same[i].nodes, e.Node)
		}
	}
	var out []said
	last = map[string]int{} // of what the same nodes say
	for _, g := range same {
		key := string(g.kind) + " " + strings.Join(g.nodes, " ")
		i, ok := last[key]
		if ok && g.at.Sub(out[i].at) <= oneBreath {
			out[i].more++
			continue
		}
		last[key] = len(out)
		out = append(out, g)
	}
	return out
}

// rank says how near a kind is to what a client feels; a lower one goes first.
func rank(k events.Kind) int {
	switch k {
	case events.BFD, events.Withdrawn, events.Announced, events.Real, events.LUN, events.Disk:
		return 0
	case events.Answer, events.Process, events.Path, events.Order:
		return 1
	case events.Session, events.VIP, events.Alarm:
		return 2
	}
	return 3
}

// pick takes the n that matter most, with no more than a third of one kind while there are others.
func pick(list []said, n int) []said {
	n = max(n, 0)
	byRank := slices.Clone(list)
	slices.SortStableFunc(byRank, func(a, b said) int { return cmp.Compare(rank(a.kind), rank(b.kind)) })
	var out, rest []said
	of := map[events.Kind]int{}
	for _, g := range byRank {
		if of[g.kind]++; of[g.kind] > max(n/3, 1) {
			rest = append(rest, g)
			continue
		}
		out = append(out, g)
	}
	out = append(out, rest...)
	return out[:min(n, len(out))]
}

// placed is a flag with its place: its text from left to right in a row, counted from below.
type placed struct {
	flag
	x, left, right float64
	flipped        bool // the text stands left of the line
	row            int  // -1: there is no room for its text
}

// gapOfTexts is left free between two texts of a row, in the unit of x.
const gapOfTexts = 6

// place finds a row for each text so that none lies on another or on the line of one; x gives the place of a flag's
// line, width that of its text, and texts stay left of edge. A text stands right of its line, and the earlier flag
// higher, so that the line of a later one ends below it. Near the edge it is the other way round, and so it is for a
// flag whose line would run into such a text.
func place(list []flag, x func(float64) float64, width func(flag) float64, edge float64, rows int) []placed {
	out := make([]placed, len(list))
	var flipped, right []int // from the latest on
	for i := len(list) - 1; i >= 0; i-- {
		p := placed{flag: list[i], x: x(list[i].at), row: -1}
		p.left, p.right = p.x, p.x+width(list[i])
		under := slices.ContainsFunc(flipped, func(j int) bool { return p.x > out[j].left })
		if w := width(list[i]); (p.right > edge || under) && p.x-w >= 0 {
			p.flipped, p.left, p.right = true, p.x-w, p.x
			flipped = append(flipped, i)
		} else {
			right = append(right, i)
		}
		out[i] = p
	}
	slices.Reverse(flipped)
	order := append(flipped, right...)
	for n, i := range order {
		fit(&out[i], order[:n], out, edge, rows)
	}
	return out
}

// fit puts a flag into the lowest row in which it meets none of those that have their places.
func fit(p *placed, order []int, all []placed, edge float64, rows int) {
	if p.right > edge {
		return
	}
	for r := range rows {
		if !slices.ContainsFunc(order, func(i int) bool { return collides(*p, r, all[i]) }) {
			p.row = r
			return
		}
	}
}

// collides says whether p in row r would meet another that is placed.
func collides(p placed, r int, o placed) bool {
	if o.row < 0 {
		return false // its line ends below all texts
	}
	switch {
	case r == o.row:
		return p.left < o.right+gapOfTexts && o.left < p.right+gapOfTexts
	case r < o.row: // o's line passes p's text
		return o.x > p.left-gapOfTexts/2 && o.x < p.right+gapOfTexts/2
	default: // p's line passes o's text, which it may touch at its end
		return p.x > o.left && p.x < o.right
	}
}
