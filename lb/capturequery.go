package lb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"anycastle/bpf"
)

// CaptureQuery is what is asked of a capture. What is zero selects everything, or bounds by what DefaultCapture says.
type CaptureQuery struct {
	VIP    string // by name, or by its address if that has no other VIP
	Real   string // FARM/NAME
	Reason string // of a drop, as `show drops` has it, or AnyReason
	Count  int    // packets that came in
	Time   time.Duration
	Snap   int // bytes kept of each frame
}

// AnyReason selects every dropped packet.
const AnyReason = "any"

// DefaultCapture has the bounds of a capture that is asked for without. MostCaptured has those of every one.
func DefaultCapture() CaptureQuery {
	return CaptureQuery{Count: 10_000, Time: time.Minute, Snap: 256}
}

// MostCaptured has the largest bounds that may be asked for.
func MostCaptured() CaptureQuery {
	return CaptureQuery{Count: 1_000_000, Time: time.Hour, Snap: bpf.MaxCapLen}
}

// Path is where the role's socket answers the query with a stream of pcapng.
func (q CaptureQuery) Path() string {
	v := url.Values{}
	for key, text := range map[string]string{"vip": q.VIP, "real": q.Real, "reason": q.Reason} {
		if text != "" {
			v.Set(key, text)
		}
	}
	for key, n := range map[string]int{"count": q.Count, "snap": q.Snap} {
		if n != 0 {
			v.Set(key, strconv.Itoa(n))
		}
	}
	if q.Time != 0 {
		v.Set("time", q.Time.String())
	}
	return "/v1/capture?" + v.Encode()
}

// parseCaptureQuery undoes Path.
func parseCaptureQuery(raw string) (CaptureQuery, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return CaptureQuery{}, fmt.Errorf("read the query: %w", err)
	}
	q := DefaultCapture()
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if len(values[key]) != 1 || values[key][0] == "" {
			return q, fmt.Errorf("%.80q: give it once, and a value with it", key)
		}
		if err := q.set(key, values[key][0]); err != nil {
			return q, err
		}
	}
	return q, q.Validate()
}

func (q *CaptureQuery) set(key, text string) (err error) {
	switch key {
	case "vip":
		q.VIP = text
	case "real":
		q.Real = text
	case "reason":
		q.Reason = text
	case "count":
		q.Count, err = strconv.Atoi(text)
	case "snap":
		q.Snap, err = strconv.Atoi(text)
	case "time":
		q.Time, err = time.ParseDuration(text)
	default:
		return fmt.Errorf("a capture has no %.80q; it has vip, real, reason, count, time and snap", key)
	}
	if err != nil {
		return fmt.Errorf("%s: %.80q is no number, or no time such as 30s", key, text)
	}
	return nil
}

// Validate says which bound is out of bounds.
func (q CaptureQuery) Validate() error {
	most := MostCaptured()
	switch {
	case q.Count < 1 || q.Count > most.Count:
		return fmt.Errorf("%d packets: a capture takes 1 to %d", q.Count, most.Count)
	case q.Time <= 0 || q.Time > most.Time:
		return fmt.Errorf("%v: a capture lasts at most %v", q.Time, most.Time)
	case q.Snap < 1 || q.Snap > most.Snap:
		return fmt.Errorf("%d bytes: a capture keeps 1 to %d of each frame", q.Snap, most.Snap)
	}
	return nil
}

// String says what is selected.
func (q CaptureQuery) String() string {
	var parts []string
	for _, p := range [][2]string{{"vip", q.VIP}, {"real", q.Real}, {"reason", q.Reason}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	if len(parts) == 0 {
		return "everything"
	}
	return strings.Join(parts, ", ")
}

// selection is a query made out.
type selection struct {
	filter bpf.CaptureFilter
	vip    string // name
	real   realID
}

// selects says whether a packet is one of those asked for. The program has looked already, but by indexes: two farms may
// share a real, and a packet may have been on its way while the filter was changed.
func (s *selection) selects(t *bpf.Trace, n names) bool {
	v, known := n.vips[t.Vip-1]
	if s.vip != "" && (t.Vip == 0 || v.name != s.vip) {
		return false
	}
	if s.filter.Real != 0 {
		if s.filter.Real != uint32(t.Real) && s.filter.Real != uint32(t.Second) || t.Vip != 0 && known && v.farm != s.real.farm {
			return false
		}
	}
	if s.filter.Reason == bpf.AnyReason {
		return t.Reason != 0
	}
	return s.filter.Reason == 0 || s.filter.Reason == t.Reason
}

// names tells what the data path's indexes mean.
type names struct {
	vips  map[uint32]namedVIP // by index of their counters
	reals map[uint32]namedReal
}

type namedVIP struct {
	name, farm string
	addr       netip.Addr
}

type namedReal struct {
	by      map[string]string // its name by farm
	ifindex int               // that packets leave by for it
}

// names gives those of what is installed now.
func (l *LB) names(ctx context.Context) (n names, err error) {
	err = l.ask(ctx, func(l *loop) { n = l.names() })
	return n, err
}

func (l *loop) names() names {
	n := names{vips: map[uint32]namedVIP{}, reals: map[uint32]namedReal{}}
	installed := l.have.allVIPs()
	for _, v := range l.in.cfg.VIPs {
		if e, ok := installed[v.key()]; ok {
			n.vips[e.index] = namedVIP{v.Name, v.Farm, v.Address}
		}
	}
	index := map[realKey]uint32{}
	for i, e := range l.have.reals {
		index[e.realKey] = i
		n.reals[i] = namedReal{map[string]string{}, e.hop.Ifindex}
	}
	for i := range l.in.cfg.Farms {
		f := &l.in.cfg.Farms[i]
		for addr, rec := range l.in.states[f.Name] { // also what has left the config and still has flows
			if i, ok := index[realKey{addr, rec.kind()}]; ok {
				n.reals[i].by[f.Name] = rec.Name
			}
		}
		for j := range f.Reals {
			if i, ok := index[f.realKey(&f.Reals[j])]; ok {
				n.reals[i].by[f.Name] = f.Reals[j].Name
			}
		}
	}
	return n
}

// real names a real as a farm has it, or as any has it if that does not.
func (n names) real(index uint16, farm string) string {
	by := n.reals[uint32(index)].by
	if name, ok := by[farm]; ok {
		return farm + "/" + name
	}
	for _, farm := range slices.Sorted(maps.Keys(by)) {
		return farm + "/" + by[farm]
	}
	return fmt.Sprintf("real %d", index) // it has gone since
}

// fate says what became of a packet.
func (n names) fate(t *bpf.Trace) string {
	v := n.vips[t.Vip-1]
	var text string
	switch verdict := bpf.Verdict(t.Verdict); {
	case verdict == bpf.Drop:
		text = "dropped: " + bpf.ReasonName(t.Reason)
	case verdict == bpf.Pass:
		text = "passed to the kernel"
	case t.Real == 0:
		text = "answered"
	default:
		text = "forwarded to " + n.real(t.Real, v.farm)
	}
	if t.Second != 0 {
		text += ", second chance " + n.real(t.Second, v.farm)
	}
	if v.name != "" && t.Vip != 0 {
		text += "; vip " + v.name
	}
	return text
}

// selection makes a query out. It says what there is if something is not.
func (n names) selection(q CaptureQuery) (s selection, err error) {
	s.filter.CapLen = uint32(q.Snap)
	if q.VIP != "" {
		var index uint32
		if index, s.vip, err = n.findVIP(q.VIP); err != nil {
			return s, err
		}
		s.filter.Vip = index + 1
	}
	if q.Real != "" {
		if s.filter.Real, s.real, err = n.findReal(q.Real); err != nil {
			return s, err
		}
	}
	if q.Reason != "" {
		reasons := bpf.Reasons()
		reasons[AnyReason] = bpf.AnyReason
		var ok bool
		if s.filter.Reason, ok = reasons[q.Reason]; !ok {
			return s, noSuch("reason", q.Reason, slices.Sorted(maps.Keys(reasons)))
		}
	}
	return s, nil
}

func (n names) findVIP(text string) (index uint32, name string, err error) {
	addr, _ := netip.ParseAddr(text)
	var found, all []string
	for i, v := range n.vips {
		all = append(all, v.name)
		if v.name == text {
			return i, v.name, nil
		}
		if v.addr == addr.Unmap() {
			index, found = i, append(found, v.name)
		}
	}
	switch len(found) {
	case 0:
		slices.Sort(all)
		return 0, "", noSuch("vip", text, all)
	case 1:
		return index, found[0], nil
	}
	slices.Sort(found)
	return 0, "", fmt.Errorf("%s has several VIPs; name one: %s", text, list(found))
}

func (n names) findReal(text string) (index uint32, id realID, err error) {
	farm, name, _ := strings.Cut(text, "/")
	var all []string
	for i, r := range n.reals {
		if name != "" && r.by[farm] == name {
			return i, realID{farm, name}, nil
		}
		for farm, name := range r.by {
			all = append(all, farm+"/"+name)
		}
	}
	slices.Sort(all)
	return 0, realID{}, noSuch("real", text, all)
}

// maxListed is how many names an error lists.
const maxListed = 24

func list(all []string) string {
	if more := len(all) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:maxListed], ", "), more)
	}
	return strings.Join(all, ", ")
}

func noSuch(what, name string, all []string) error {
	if len(all) == 0 {
		return errors.New("nothing is installed yet: the first probes have not finished; try again in a moment")
	}
	return fmt.Errorf("there is no %s %.80q; there are: %s", what, name, list(all))
}
