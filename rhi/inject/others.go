package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anycastle/internal/mesh"
	"anycastle/internal/strict"
	"anycastle/rhi/decide"
)

const (
	maxOthers = 15                 // other balancers of a VIP: as many as a report has room for
	forget    = time.Hour          // after which one that is not heard is no more known
	stale     = 10 * time.Second   // after which a telling of an earlier process is believed
	missing   = 3 * beat / 2       // after which it may be taken for silent: that it speaks is news
	room      = mesh.MaxTold - 300 // for reports in a telling, beside all that stands around them
)

// telling is what a balancer says at once: some of its reports.
type telling struct {
	Site   string  `json:"site"`
	Boot   int64   `json:"boot"`   // when its process began, in nanoseconds
	Number int64   `json:"number"` // rises with each telling of a process
	VIPs   []entry `json:"vips,omitempty"`
}

// entry is a report as it stands in a telling.
type entry struct {
	Prefix netip.Prefix    `json:"vip"`
	Report json.RawMessage `json:"report"`
}

// encodeTellings puts reports into as few tellings as they fit. There is at least one: it is a sign of life. A report that
// cannot be told, which the error says, keeps no other back.
func encodeTellings(site string, boot int64, number *int64, reports map[netip.Prefix]decide.Report) ([][]byte, error) {
	var list [][]byte
	var errs []error
	next := func() telling { *number++; return telling{Site: site, Boot: boot, Number: *number} }
	t := next()
	flush := func() {
		text, err := json.Marshal(t)
		list, errs = append(list, text), append(errs, err)
	}
	size := 0
	for _, prefix := range sortedPrefixes(reports) {
		text, err := reports[prefix].Encode()
		if err == nil && len(text) > room {
			err = fmt.Errorf("%d bytes; at most %d: give balancers shorter names", len(text), room)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("report of %v: %w", prefix, err))
			continue
		}
		if len(t.VIPs) > 0 && size+len(text) > room {
			flush()
			t, size = next(), 0
		}
		t.VIPs = append(t.VIPs, entry{prefix, text})
		size += len(text) + 80 // and the prefix and braces of a further one
	}
	flush()
	return list, errors.Join(errs...)
}

func sortedPrefixes[T any](m map[netip.Prefix]T) []netip.Prefix {
	list := make([]netip.Prefix, 0, len(m))
	for p := range m {
		list = append(list, p)
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return list
}

func decodeTelling(text []byte) (t telling, reports map[netip.Prefix]decide.Report, err error) {
	if err := strict.Unmarshal(text, &t); err != nil {
		return t, nil, err
	}
	switch {
	case !mesh.ValidName(t.Site):
		return t, nil, fmt.Errorf("%.20q is no name of a site", t.Site)
	case t.Boot <= 0 || t.Number <= 0:
		return t, nil, fmt.Errorf("start %d, number %d; both are above 0", t.Boot, t.Number)
	}
	reports = map[netip.Prefix]decide.Report{}
	for _, v := range t.VIPs {
		if !v.Prefix.IsValid() || v.Prefix != v.Prefix.Masked() {
			return t, nil, fmt.Errorf("%v is no prefix of a VIP", v.Prefix)
		}
		r, err := decide.DecodeReport(v.Report)
		if err != nil {
			return t, nil, fmt.Errorf("report of %v: %w", v.Prefix, err)
		}
		reports[v.Prefix] = r
	}
	return t, reports, nil
}

// heard is a report and when it was heard last, by our clock.
type heard struct {
	report decide.Report
	at     time.Time
}

// other is another balancer.
type other struct {
	site    string
	boot    int64
	numbers mesh.Window // of its tellings
	at      time.Time   // when it was heard last
	reports map[netip.Prefix]heard
}

// others are the other balancers that were heard. It is safe for concurrent use.
type others struct {
	self string

	mu     sync.Mutex
	byName map[string]*other
}

func newOthers(self string) *others { return &others{self: self, byName: map[string]*other{}} }

// take takes a telling, and says whether it may lead to another decision: most are signs of life, and what a decision holds
// until is known. One that was heard already is refused, and one of an earlier process, unless nothing was heard for long: a
// clock may have been set back.
func (o *others) take(from string, text []byte, now time.Time) (news bool, err error) {
	t, reports, err := decodeTelling(text)
	if err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	is, known := o.byName[from]
	switch {
	case from == o.self:
		return false, errors.New("it comes from this balancer itself, or from another of its name")
	case !known && len(o.byName) >= maxOthers && !o.forgetOne(now):
		return false, fmt.Errorf("there are %d other balancers already", maxOthers)
	case !known:
		is = &other{reports: map[netip.Prefix]heard{}}
		o.byName[from] = is
	case t.Boot < is.boot && now.Sub(is.at) < stale:
		return false, errors.New("it is of a process that was there before")
	}
	if t.Boot != is.boot {
		is.boot, is.numbers = t.Boot, mesh.Window{}
		is.reports = map[netip.Prefix]heard{} // what another process said is void
		news = true
	}
	if !is.numbers.Take(t.Number) {
		return false, errors.New("it was heard already, or is too old")
	}
	is.site, is.at = t.Site, now
	for prefix, r := range reports {
		old := is.reports[prefix]
		if r.Generation >= old.report.Generation {
			news = news || r.Generation > old.report.Generation || now.Sub(old.at) > missing
			is.reports[prefix] = heard{r, now}
		}
	}
	return news, nil
}

// siteOf gives the site that a balancer says it is at.
func (o *others) siteOf(name string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if is := o.byName[name]; is != nil {
		return is.site
	}
	return ""
}

// heard says whether a balancer of that name was.
func (o *others) heard(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byName[name] != nil
}

// forgetOne makes room for a balancer that was not heard before. The caller holds mu.
func (o *others) forgetOne(now time.Time) bool {
	for name, is := range o.byName {
		if now.Sub(is.at) > forget {
			delete(o.byName, name)
			return true
		}
	}
	return false
}

// of gives what is known of the others that have a VIP. Those that a promise was given to are in it, whether they were
// heard or not.
func (o *others) of(prefix netip.Prefix, holds map[string]int64, now time.Time) map[string]decide.Site {
	o.mu.Lock()
	defer o.mu.Unlock()
	sites := map[string]decide.Site{}
	for name := range holds {
		sites[name] = decide.Site{}
	}
	for name, is := range o.byName {
		if h, ok := is.reports[prefix]; ok && (now.Sub(h.at) < forget || holds[name] != 0) {
			r := h.report
			sites[name] = decide.Site{Role: r.Role, Report: &r, Heard: h.at}
		}
	}
	return sites
}
