package rhi

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Kinds of what a peer is sent.
const (
	kindAnnounce = "announce"
	kindWithdraw = "withdraw"
	kindChange   = "change" // of the rung
	sessionUp    = "session up"
	sessionDown  = "session down"
)

// Sent is what a peer was last sent of one of the node's own prefixes: one line of `show sent`. Times that are not known
// are zero.
type Sent struct {
	Prefix       netip.Prefix `json:"prefix"`
	Peer         string       `json:"peer"`
	Address      netip.Addr   `json:"address"`
	Group        string       `json:"group"`
	Kind         string       `json:"kind"` // announce, withdraw, change, session up or session down
	Sent         string       `json:"sent"` // as Rung.String says it, "withdrawn", or "session down", which takes all back
	Why          string       `json:"why"`
	At           time.Time    `json:"at"`                    // when the node set out to send it
	Cause        time.Time    `json:"cause,omitzero"`        // when what led to it happened
	Decided      time.Time    `json:"decided,omitzero"`      // when it was decided
	Written      time.Time    `json:"written,omitzero"`      // when the connection to the peer had taken it
	Acknowledged time.Time    `json:"acknowledged,omitzero"` // when the peer's TCP had it
}

// gone says whether the peer is without the prefix.
func (s *Sent) gone() bool { return s.Kind == kindWithdraw || s.Kind == sessionDown }

// Begun is when the time to send it starts to count.
func (s *Sent) Begun() time.Time {
	if s.Decided.IsZero() {
		return s.At
	}
	return s.Decided
}

// Sent gives what each peer was last sent of each own prefix, by prefix and peer. What was withdrawn is forgotten after an
// hour.
func (r *Role) Sent() []Sent { return r.stamps.list() }

// noteSending notes what each peer with a session is about to be sent of the prefixes. It comes before they are sent, as what a
// connection takes from then on is counted. The caller holds mu.
func (r *Role) noteSending(want, before announceTable, prefixes ...[]netip.Prefix) (told []*record) {
	changed := slices.Concat(prefixes...)
	if len(changed) == 0 {
		return nil
	}
	groups, news := r.cfg.groupNames(), map[netip.Addr][]*record{}
	for _, p := range r.peers {
		if p.shown.State != established {
			continue
		}
		if records := r.news(p, slices.Index(groups, p.Group), want, before, changed); len(records) > 0 {
			news[p.Address] = records
			told = append(told, records...)
		}
	}
	r.stamps.begin(news)
	return told
}

// news is what the step from one table to another means to a peer. The caller holds mu.
func (r *Role) news(p *session, group int, want, before announceTable, prefixes []netip.Prefix) (records []*record) {
	if p.watched() {
		return nil
	}
	now, ladder, families := time.Now(), r.cfg.Ladder(p.Group), p.peers().families()
	for _, prefix := range prefixes {
		from, to := rungAt(before, prefix, group, len(ladder)), rungAt(want, prefix, group, len(ladder))
		kind := kindOf(from, to, len(ladder)-1)
		if kind == "" || !slices.Contains(families, routeFamily(prefix.Addr())) {
			continue
		}
		a := r.asked[prefix]
		records = append(records, &record{Sent: Sent{
			Prefix: prefix, Peer: p.Name, Address: p.Address, Group: p.Group, Kind: kind, Sent: ladder[to].String(),
			Why: a.Why, At: now, Cause: a.Cause, Decided: a.Decided,
		}})
	}
	return records
}

// settle takes back what was noted of prefixes that were not sent after all. Once none is, the stamps of what was asked for
// are used up: what a later sync sends has other causes. The caller holds mu.
func (r *Role) settle(told []*record, failed ...[]netip.Prefix) {
	r.stamps.forget(told, failed...)
	if len(slices.Concat(failed...)) == 0 {
		r.asked = nil
	}
}

// rungAt is the rung of a prefix in a table; the last one when it is not in it, and -1 when that cannot be told.
func rungAt(t announceTable, p netip.Prefix, group, rungs int) int {
	row, ok := t[p]
	switch {
	case !ok:
		return rungs - 1
	case group < 0 || group >= len(row) || int(row[group]) >= rungs:
		return -1
	}
	return int(row[group])
}

// kindOf says what a step between rungs is; empty: none.
func kindOf(from, to, last int) string {
	switch {
	case from == to || to < 0:
		return ""
	case to == last:
		return kindWithdraw
	case from == last:
		return kindAnnounce
	}
	return kindChange
}

// noteUp notes what a peer is sent because its session came up: all that stands. The caller holds mu.
func (r *Role) noteUp(p *session, c connection) {
	if r.speaker == nil {
		return
	}
	table := r.wanted()
	records := r.news(p, slices.Index(r.cfg.groupNames(), p.Group), table, nil, slices.Collect(maps.Keys(table)))
	for _, rec := range records {
		rec.Kind, rec.Why, rec.Cause, rec.Decided = sessionUp, sessionUp, time.Time{}, time.Time{}
	}
	r.stamps.up(p.Address, c, records)
}
