package inject

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"anycastle/rhi"
	"anycastle/rhi/decide"
)

// Row is one line of `explain vip`.
type Row struct {
	VIP    netip.Prefix `json:"vip,omitzero"` // zero: it holds for all
	What   string       `json:"what"`         // a gate, a group of peers, a peer, what it was sent, "place" or "alarm"
	Says   string       `json:"says"`
	Detail string       `json:"detail"`
}

// Explain says of a VIP where it stands and why, gate by gate; of all VIPs, if prefix is the zero Prefix. supposed is what it
// is to suppose to be different, "" for nothing: "reals=N" (N in service), "balancer=NAME" (that one falls silent), "peers=0" (no session),
// "hang" (the balancer hangs), "unchecked" (health cannot be checked), or "drain", "withdraw", "announce" (an order).
// Nothing is done. An error says what is wrong with the question.
func (i *Injector) Explain(prefix netip.Prefix, supposed string) ([]Row, error) {
	change, err := suppose(prefix, supposed)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.services[prefix]; prefix.IsValid() && !ok {
		return nil, fmt.Errorf("this balancer has no VIP %v", prefix)
	}
	if name, ok := strings.CutPrefix(supposed, "balancer="); ok && !i.others.heard(name) {
		return nil, fmt.Errorf("no balancer %q was heard; `anycastle show site` lists those that were", name)
	}
	now := time.Now()
	in := i.inputs(now)
	if prefix.IsValid() {
		if why := i.speaker.Refuse(prefix); why != "" {
			return []Row{{prefix, "place", string(decide.PlaceWithdrawn), why}}, nil
		}
	}
	ds := decide.WhatIf(i.state, in, change, now)
	rows := []Row{}
	for _, r := range ds.Rows() {
		if prefix.IsValid() && r.VIP != prefix {
			continue
		}
		row := Row{r.VIP, r.What, r.Says, r.Detail}
		if group, ok := strings.CutPrefix(r.What, "group "); ok {
			row.Detail = "is sent: " + i.words(ds.VIPs[r.VIP].Rungs)[group]
		}
		rows = append(rows, row)
	}
	if supposed == "" {
		rows = append(rows, i.peerRows(prefix)...)
	}
	return rows, nil
}

// peerRows say of each peer how its session is, and what it was sent of a VIP and when.
func (i *Injector) peerRows(prefix netip.Prefix) (rows []Row) {
	sent := i.speaker.Sent()
	for _, p := range i.speaker.Status().Peers {
		state := Row{prefix, "peer " + p.Name, p.State, fmt.Sprintf("since %s", p.Since.UTC().Format(time.TimeOnly+"Z"))}
		if p.LastError != "" {
			state.Detail += ", last error: " + p.LastError
		}
		rows = append(rows, state)
		for _, s := range sent {
			if s.Peer == p.Name && s.Address == p.Address && (s.Prefix == prefix || !prefix.IsValid()) {
				rows = append(rows, Row{s.Prefix, "sent to " + p.Name, s.Sent, sentDetail(s)})
			}
		}
	}
	return rows
}

// sentDetail says when something was sent, and how far it got.
func sentDetail(s rhi.Sent) string {
	text := "at " + s.At.UTC().Format("15:04:05.000Z")
	if !s.Written.IsZero() {
		text += fmt.Sprintf(", written after %v", s.Written.Sub(s.At).Round(10*time.Microsecond))
	}
	switch {
	case !s.Acknowledged.IsZero():
		text += fmt.Sprintf(", acknowledged after %v", s.Acknowledged.Sub(s.At).Round(10*time.Microsecond))
	case !s.Written.IsZero():
		text += ", not acknowledged"
	}
	if s.Why != "" {
		text += ": " + s.Why
	}
	return text
}

// suppose gives what changes the inputs in the way that words say.
func suppose(prefix netip.Prefix, supposed string) (func(*decide.Inputs), error) {
	each := func(change func(v *decide.VIP)) func(*decide.Inputs) {
		return func(in *decide.Inputs) {
			for p, v := range in.VIPs {
				if !prefix.IsValid() || p == prefix {
					change(&v)
					in.VIPs[p] = v
				}
			}
		}
	}
	word, value, _ := strings.Cut(supposed, "=")
	switch word {
	case "":
		return func(*decide.Inputs) {}, nil
	case "reals":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q: want reals=NUMBER, of those that would be in service", supposed)
		}
		return each(func(v *decide.VIP) {
			v.Health.InService, v.Health.Share = min(n, v.Health.Reals), float64(min(n, v.Health.Reals))/float64(max(v.Health.Reals, 1))
		}), nil
	case "balancer":
		return each(func(v *decide.VIP) {
			if s, ok := v.Sites[value]; ok {
				s.Heard = time.Time{}
				v.Sites[value] = s
			}
		}), nil
	case "peers":
		if value != "0" {
			return nil, fmt.Errorf("%q: want peers=0", supposed)
		}
		return each(func(v *decide.VIP) { v.Sent.Peers = 0 }), nil
	case "hang":
		return each(func(v *decide.VIP) { v.Health.Lease = time.Time{} }), nil
	case "unchecked":
		return each(func(v *decide.VIP) { v.Health.Known = false }), nil
	case string(decide.KindDrain), string(decide.KindWithdraw), string(decide.KindAnnounce), string(decide.KindActivate):
		return each(func(v *decide.VIP) {
			v.Order = &decide.Order{Kind: decide.Kind(word), Since: time.Now(), Why: "supposed"}
		}), nil
	}
	return nil, fmt.Errorf("%q is nothing that can be supposed; use reals=N, balancer=NAME, peers=0, hang, unchecked, drain, withdraw, announce or activate", supposed)
}
