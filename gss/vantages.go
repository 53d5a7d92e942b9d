package gss

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"anycastle/gss/decide"
	"anycastle/internal/mesh"
)

const (
	maxVantages = mesh.MaxMembers - 1 // other GSSes
	stale       = 10 * time.Second    // after which a telling of an earlier process is believed, and what is told no more is void
	maxWhy      = 120                 // bytes of a reason that is told
	room        = mesh.MaxTold - 200  // for views in a telling, beside all that stands around them
)

// telling is what a GSS says at once: some of its views. There is at least one a beat, as a sign of life.
type telling struct {
	Boot   int64  `json:"boot"`   // when its process began, in nanoseconds
	Number int64  `json:"number"` // rises with each telling of a process
	Views  []seen `json:"views,omitempty"`

	Drains []drained `json:"drains,omitempty"`
}

// seen is a view as it stands in a telling.
type seen struct {
	Answer string      `json:"a"`
	Digest uint32      `json:"d,omitempty"` // of what is probed; missing: it does not say
	View   decide.View `json:"v"`
	Failed bool        `json:"f,omitempty"`
	Why    string      `json:"w,omitempty"`
}

// encodeTellings puts views, and how far drains are, into as few tellings as they fit.
func encodeTellings(boot int64, number *int64, views map[string]view, drains []drained) (texts [][]byte, err error) {
	next := func() telling { *number++; return telling{Boot: boot, Number: *number} }
	t, size := next(), 0
	var errs []error
	flush := func() {
		text, err := json.Marshal(t)
		texts, errs = append(texts, text), append(errs, err)
	}
	fit := func(item any) { // makes room
		text, err := json.Marshal(item)
		errs = append(errs, err)
		if size > 0 && size+len(text)+1 > room {
			flush()
			t, size = next(), 0
		}
		size += len(text) + 1
	}
	for _, d := range drains {
		fit(d)
		t.Drains = append(t.Drains, d)
	}
	for _, name := range slices.Sorted(maps.Keys(views)) {
		v := views[name]
		s := seen{name, v.digest, v.View, v.Failed, shorten(v.Why)}
		fit(s)
		t.Views = append(t.Views, s)
	}
	flush()
	return texts, errors.Join(errs...)
}

// shorten makes a reason, which a target or another GSS may have had a part in, one line of a length that fits beside others.
func shorten(why string) string {
	const more = "…"
	why = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, why), "")
	if len(why) <= maxWhy {
		return why
	}
	return strings.ToValidUTF8(why[:maxWhy-len(more)], "") + more
}

// decodeTelling reads a telling. It may have keys that are not known here, of a newer version.
func decodeTelling(text []byte) (t telling, err error) {
	if err := json.Unmarshal(text, &t); err != nil {
		return t, err
	}
	if t.Boot <= 0 || t.Number <= 0 {
		return t, fmt.Errorf("start %d, number %d; both are above 0", t.Boot, t.Number)
	}
	for i, v := range t.Views {
		t.Views[i].Why = shorten(v.Why)
		if !objectName.MatchString(v.Answer) || !slices.Contains([]decide.View{decide.NoView, decide.Passing, decide.Failing}, v.View) {
			return t, fmt.Errorf("%.20q is seen as %.20q", v.Answer, v.View)
		}
	}
	for _, d := range t.Drains {
		if !d.valid() {
			return t, fmt.Errorf("a drain of %.20q since %d has %d ms left", d.Order, d.Since, d.Left)
		}
	}
	return t, nil
}

// vantage is another GSS.
type vantage struct {
	boot    int64
	numbers mesh.Window
	at      time.Time // when it was heard last
	swept   time.Time // when what it tells no more was forgotten last
	views   map[string]view
	drains  map[string]held // by what the order is about
}

// tells says whether it goes on to tell what it told last at a time. What it does not, its config has no more.
func (v *vantage) tells(at time.Time) bool { return v.at.Sub(at) <= stale }

// sweep forgets what it tells no more.
func (v *vantage) sweep() {
	if v.at.Sub(v.swept) <= stale {
		return // it tells in many parts
	}
	v.swept = v.at
	maps.DeleteFunc(v.views, func(_ string, s view) bool { return !v.tells(s.at) })
	maps.DeleteFunc(v.drains, func(_ string, h held) bool { return !v.tells(h.at) })
}

// view is what a GSS sees of an answer, of what, and by which telling.
type view struct {
	decide.Seen
	digest uint32 // see Answer.digest; 0: it does not say
	number int64
	at     time.Time // when it was told
}

// counts says whether it is a view of what is probed here, too.
func (v view) counts(digest uint32) bool { return v.digest == 0 || digest == 0 || v.digest == digest }

// vantages are the other GSSes that were heard. It is safe for concurrent use.
type vantages struct {
	self string

	mu     sync.Mutex
	byName map[string]*vantage
}

func newVantages(self string) *vantages { return &vantages{self: self, byName: map[string]*vantage{}} }

// take takes a telling, and says whether a view is another than before. One that was heard already is refused, and one of an
// earlier process, unless nothing was heard for long: a clock may have been set back.
func (v *vantages) take(from string, text []byte, now time.Time) (news bool, err error) {
	t, err := decodeTelling(text)
	if err != nil {
		return false, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	is, known := v.byName[from]
	switch {
	case from == v.self:
		return false, errors.New("it comes from this GSS itself, or from another of its name")
	case !known && len(v.byName) >= maxVantages && !v.forgetOne(now):
		return false, fmt.Errorf("there are %d other GSSes already", maxVantages)
	case !known:
		is = &vantage{}
		v.byName[from] = is
	case t.Boot < is.boot && now.Sub(is.at) < stale:
		return false, errors.New("it is of a process that was there before")
	}
	if t.Boot != is.boot { // what another process saw is void
		*is, news = vantage{boot: t.Boot, at: is.at, views: map[string]view{}, drains: map[string]held{}}, true
	}
	if !is.numbers.Take(t.Number) {
		return false, errors.New("it was heard already, or is too old")
	}
	news = news || now.Sub(is.at) > decide.DefaultVote().Fresh
	is.at = now
	is.sweep()
	for _, s := range t.Views {
		old, has := is.views[s.Answer]
		if has && old.number > t.Number || !has && len(is.views) >= maxViews {
			continue
		}
		next := view{decide.Seen{View: s.View, Failed: s.Failed, Why: s.Why}, s.Digest, t.Number, now}
		news = news || old.View != next.View || old.Failed != next.Failed || old.digest != next.digest
		is.views[s.Answer] = next
	}
	for _, d := range t.Drains {
		old, has := is.drains[d.Order]
		if has && old.number > t.Number || !has && len(is.drains) >= maxViews {
			continue
		}
		until := now.Add(time.Duration(d.Left) * time.Millisecond)
		is.drains[d.Order] = held{since: time.Unix(0, d.Since), until: until, given: d.Given, number: t.Number, at: now}
	}
	return news, nil
}

// maxViews bounds the answers that are remembered of another GSS.
const maxViews = 10_000

// forgetOne makes room for a GSS that was not heard before: the mesh has let it in instead of one that was silent for long. The
// caller holds mu.
func (v *vantages) forgetOne(now time.Time) bool {
	oldest, at := "", now.Add(-time.Minute)
	for name, is := range v.byName {
		if is.at.Before(at) {
			oldest, at = name, is.at
		}
	}
	delete(v.byName, oldest)
	return oldest != ""
}

// of gives what is known of the members of the mesh, and of those that were heard before they were seen there. Views of something
// else than what the digests of the answers are of are left out, and those that are told no more.
func (v *vantages) of(members []mesh.Member, digests map[string]uint32, now time.Time) map[string]decide.Vantage {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[string]decide.Vantage{}
	for _, m := range members {
		if m.State != mesh.Left && m.Name != v.self {
			all[m.Name] = decide.Vantage{Answers: map[string]decide.Seen{}}
		}
	}
	for name, is := range v.byName {
		if _, there := all[name]; !there && now.Sub(is.at) > decide.DefaultVote().Fresh {
			continue // it has left
		}
		answers := make(map[string]decide.Seen, len(is.views))
		for answer, s := range is.views {
			if is.tells(s.at) && s.counts(digests[answer]) {
				answers[answer] = s.Seen
			}
		}
		all[name] = decide.Vantage{Heard: is.at, Answers: answers}
	}
	return all
}

// differ gives those that are heard and whose views are left out, by answer, in order.
func (v *vantages) differ(digests map[string]uint32, now time.Time) map[string][]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(v.byName)) {
		is := v.byName[name]
		for answer, s := range is.views {
			if is.tells(s.at) && !s.counts(digests[answer]) && now.Sub(is.at) <= decide.DefaultVote().Fresh {
				all[answer] = append(all[answer], name)
			}
		}
	}
	return all
}
