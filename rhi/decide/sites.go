package decide

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// names lists the other sites in order, so that every look finds the same.
func (t *turn) names() []string { return slices.Sorted(maps.Keys(t.vip.Sites)) }

// recent says whether something noted at a time counts still. What is from the future does not.
func (t *turn) recent(at time.Time) bool {
	fresh := t.in.Config.Fresh
	return !at.IsZero() && !at.After(t.now.Add(fresh)) && t.pending(at.Add(fresh))
}

// fresh says whether another site was heard lately.
func (t *turn) fresh(name string) bool {
	s := t.vip.Sites[name]
	return s.Report != nil && t.recent(s.Heard)
}

// table says what our BGP tables have of the other site's route; known is false if they would not have it anyway.
func (t *turn) table(name string) (seen, known bool) {
	s := t.vip.Sites[name]
	known = s.Table.Known && t.recent(s.Table.At)
	return known && s.Table.Seen, known
}

// healthy says whether another site carries the VIP, is fit to, and means to go on.
func (t *turn) healthy(name string) bool {
	r := t.vip.Sites[name].Report
	return t.fresh(name) && r.Announced && r.Healthy && !r.Needs && t.refusal(name) == ""
}

// refusal says what another site lacks to carry the VIP, whether it has promised to or not; empty: nothing.
func (t *turn) refusal(name string) string {
	r := t.vip.Sites[name].Report
	seen, known := t.table(name)
	switch {
	case r == nil:
		return "was never heard"
	case !t.fresh(name):
		return "was not heard since " + clock(t.vip.Sites[name].Heard)
	case !r.Announced:
		return "does not announce it (" + string(r.Place) + ")"
	case !r.Healthy:
		return "is not healthy"
	case known && !seen:
		return "says it announces it, and our BGP tables do not have it"
	}
	return ""
}

// letsGo says why another site does not let the VIP go; empty: it does. Withdrawn already under its promise, the VIP may
// be so as long as nothing is heard to the contrary and our own BGP tables have the other's route.
func (t *turn) letsGo(name string) string {
	want := t.rec.Said.Want
	if seen, _ := t.table(name); !t.fresh(name) && seen && t.rec.Place == PlaceWithdrawn && t.rec.By == name {
		return ""
	}
	if why := t.refusal(name); why != "" {
		return why
	}
	r := t.vip.Sites[name].Report
	switch {
	case want != 0 && r.Holds[t.in.Site] == want:
		return ""
	case r.Want != 0:
		return "wants to be let go itself"
	}
	return "has not promised to stay yet"
}

// alone stands for the other site where nobody else is to be asked. No site can have the name.
const alone = "(nobody else)"

// carrier gives the other site that lets the VIP go, the same as before if it still does; empty: none.
func (t *turn) carrier() string {
	found := ""
	if t.in.Config.Alone && len(t.vip.Sites) == 0 {
		found = alone
	}
	for _, name := range t.names() {
		if t.letsGo(name) == "" && (found == "" || name == t.rec.By) {
			found = name
		}
	}
	return found
}

// whyHeld says of every other site why it does not let the VIP go.
func (t *turn) whyHeld() string {
	var all []string
	for _, name := range t.names() {
		all = append(all, name+" "+t.letsGo(name))
	}
	if len(all) == 0 {
		return "no other balancer announces it"
	}
	return strings.Join(all, ", ")
}

// precedes says which of two sites may have a request to be let go that it does not need yet.
func precedes(a string, roleA Role, b string, roleB Role) bool {
	if roleA != roleB {
		return roleA == Primary
	}
	return a < b
}

// standing says whether this site makes its request beforehand, so that it can go at once when it must. The first does, and
// all others but the last of those that carry the VIP, which holds for them; and none does while another is in need and has
// nobody to hold for it.
func (t *turn) standing() bool {
	first, follows := true, false
	for name, s := range t.vip.Sites {
		if t.inNeed(name) {
			return false
		}
		before := precedes(t.in.Site, t.vip.Role, name, s.Role)
		first = first && before
		follows = follows || before && t.fresh(name) && s.Report.Announced && s.Report.Healthy
	}
	return first && len(t.vip.Sites) > 0 || follows
}

// inNeed says whether another site must be let go and nobody but this one could do it.
func (t *turn) inNeed(name string) bool {
	r := t.vip.Sites[name].Report
	if !t.fresh(name) || !r.Needs || r.Want == 0 {
		return false
	}
	for other, s := range t.vip.Sites {
		if other != name && t.fresh(other) && s.Report.Announced && s.Report.Healthy && s.Report.Holds[name] == r.Want {
			return false
		}
	}
	return true
}

// yields says whether this site gives up a request that it does not need, for the sake of another's.
func (t *turn) yields() bool {
	for _, name := range t.names() {
		s := t.vip.Sites[name]
		if t.inNeed(name) || t.fresh(name) && s.Report.Want != 0 && precedes(name, s.Role, t.in.Site, t.vip.Role) && !t.standing() {
			return true
		}
	}
	return false
}

// needs says whether the VIP wants to leave now.
func (t *turn) needs() bool {
	return t.goal.place == PlaceWithdrawn || t.goal.place == PlaceDraining
}

// stands says whether the VIP is announced for certain.
func (t *turn) stands() bool {
	return t.rec.Place != PlaceWithdrawn && t.vip.Sent.Known && t.vip.Sent.Peers > 0
}

// ask makes the request to be let go, or takes it back. It is taken back only while the VIP is announced: nothing rests
// on it then.
func (t *turn) ask() int64 {
	rec := &t.rec
	want := rec.Said.Want
	switch {
	case t.needs():
	case !t.stands():
		return want
	case t.yields():
		return 0
	case t.standing():
	case rec.Place.level() < PlaceLast.level():
		return 0
	}
	if want == 0 && len(t.vip.Sites) > 0 {
		rec.Asked = t.number()
		return rec.Asked
	}
	return want
}

// maxNumber bounds the numbers of requests, so that there always is a next one.
const maxNumber = math.MaxInt64 / 2

// number gives a request a number that none before had, also when what was kept is lost: the time, and past all that
// others remember.
func (t *turn) number() int64 {
	next := max(t.now.UnixNano(), t.rec.Asked+1)
	for _, s := range t.vip.Sites {
		if s.Report != nil && s.Report.Holds[t.in.Site] < maxNumber {
			next = max(next, s.Report.Holds[t.in.Site]+1)
		}
	}
	return min(next, maxNumber)
}

// holds gives the requests of other sites that this one grants. Only a site without a request of its own grants, which is
// what keeps two from resting on each other; see the package comment. A promise stands until the request is taken back.
func (t *turn) holds(want int64) map[string]int64 {
	may := want == 0 && t.stands() && t.checked() && !t.needs()
	holds := map[string]int64{}
	for _, name := range t.names() {
		held, fresh := t.rec.Said.Holds[name], t.fresh(name)
		asked := int64(0)
		if fresh {
			asked = t.vip.Sites[name].Report.Want
		}
		switch {
		case held != 0 && (!fresh || held == asked):
			holds[name] = held
		case fresh && asked != 0 && may:
			holds[name] = asked
		}
	}
	if len(holds) == 0 {
		return nil
	}
	return holds
}

// report makes what the other sites are told.
func (t *turn) report() {
	old := t.rec.Said
	want := t.ask()
	r := Report{
		Generation: old.Generation, Role: t.vip.Role, Place: t.rec.Place,
		Announced: t.stands(), Healthy: t.checked(),
		Want: want, Needs: want != 0 && (t.needs() || t.rec.Place == PlaceWithdrawn), Holds: t.holds(want),
	}
	for _, name := range t.names() {
		if seen, known := t.table(name); known {
			if r.Sees == nil {
				r.Sees = map[string]bool{}
			}
			r.Sees[name] = seen
		}
	}
	if !r.same(old) {
		r.Generation = max(t.now.UnixNano(), old.Generation+1)
	}
	t.rec.Said = r
}

// siteLine says all that is known of another site.
func (t *turn) siteLine(name string) string {
	s := t.vip.Sites[name]
	text := fmt.Sprintf("%s (%s)", name, cmp.Or(s.Role, "no role"))
	if s.Report != nil {
		text += fmt.Sprintf(" is at %s, generation %d, heard %v ago", s.Report.Place, s.Report.Generation, t.now.Sub(s.Heard).Round(time.Millisecond))
	}
	switch seen, known := t.table(name); {
	case !known:
		text += ", our BGP tables cannot tell"
	case seen:
		text += ", our BGP tables have its route"
	default:
		text += ", our BGP tables do not have its route"
	}
	if why := t.refusal(name); why != "" {
		return text + ": it " + why
	}
	return text + ": it could carry the VIP"
}
