package mesh

import (
	"cmp"
	"math"
	"strings"
)

// stamp says when a change was made. All stamps of one mesh are ordered, and those of one member are all different.
type stamp struct {
	wall  int64  // milliseconds since 1970
	count uint32 // of the changes in that millisecond
	node  string // who made it; breaks ties
}

func (s stamp) compare(o stamp) int {
	return cmp.Or(cmp.Compare(s.wall, o.wall), cmp.Compare(s.count, o.count), strings.Compare(s.node, o.node))
}

// clock is a hybrid logical clock: it follows the wall clock, but never falls behind a stamp it has seen. So a change
// that was made knowing of another is later than that one, also where the wall clock is slow or was set back.
type clock struct {
	node string
	last stamp
}

// next gives the stamp of a change made now.
func (c *clock) next(now int64) stamp {
	switch {
	case now > c.last.wall:
		c.last = stamp{wall: now}
	case c.last.count == math.MaxUint32:
		c.last = stamp{wall: c.last.wall + 1}
	default:
		c.last.count++
	}
	c.last.node = c.node
	return c.last
}

// observe takes note of a stamp from elsewhere.
func (c *clock) observe(s stamp) {
	if s.compare(c.last) > 0 {
		c.last = s
	}
}
