package lb

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of a list of flows.
const (
	DefaultFlows = 1000
	MaxFlows     = 100_000
)

// FlowQuery selects flows. The zero value of each part selects all.
type FlowQuery struct {
	VIP    string       // name of one
	Real   string       // FARM/NAME
	Client netip.Prefix // that the client is in
	Limit  int          // of the list; 0: DefaultFlows
}

// FlowStatus is one row of `show flow`.
type FlowStatus struct {
	Client    netip.AddrPort `json:"client"`
	VIP       netip.AddrPort `json:"vip"`
	Name      string         `json:"name"` // of the VIP
	Protocol  string         `json:"protocol"`
	Farm      string         `json:"farm"`
	Real      string         `json:"real"`
	Address   netip.Addr     `json:"address"` // of the real
	Source    string         `json:"source"`  // who knows of it: FromAgent or FromTracked
	Slot      FlowSlot       `json:"slot"`
	Elsewhere bool           `json:"elsewhere"` // new flows of its slot go to another real
}

// FlowSlot is the slot of a flow, with the names of its reals; empty: there is none, or FlowList.Behind says why that is
// not known.
type FlowSlot struct {
	Number    int    `json:"number"`
	Primary   string `json:"primary"`
	Secondary string `json:"secondary"`
}

// FlowList is the answer to a FlowQuery.
type FlowList struct {
	Flows  []FlowStatus `json:"flows"`            // sorted by farm, real and client
	Total  int          `json:"total"`            // that are known and were asked for
	More   int          `json:"more"`             // of these, that are not in the list
	Why    string       `json:"why,omitempty"`    // why there are none
	Behind string       `json:"behind,omitempty"` // why what is installed is not what should be
	// Displaced is how many stored flows had to make room for others since the balancer's maps were made.
	Displaced uint64         `json:"displaced,omitempty"`
	Unknown   []UnknownFlows `json:"unknown"` // of which reals nothing, or not all, is known
}

// ErrQuery says what is wrong with a query.
var ErrQuery = errors.New("query")

// Flows gives the live flows that are known: those that the reals' agents list, and those that began in a transition, which
// the balancer tracks. An error is ErrQuery, ErrNotRunning or the kernel's.
func (l *LB) Flows(ctx context.Context, q FlowQuery) (FlowList, error) {
	if q.Limit == 0 {
		q.Limit = DefaultFlows
	}
	if q.Limit < 0 || q.Limit > MaxFlows {
		return FlowList{}, fmt.Errorf("%w: limit %d; give 1 to %d", ErrQuery, q.Limit, MaxFlows)
	}
	s, err := l.snapshot(ctx)
	if err != nil {
		return FlowList{}, err
	}
	wanted, err := q.wanted(&s.in)
	if err != nil {
		return FlowList{}, err
	}
	kept := least[FlowStatus]{limit: q.Limit, compare: FlowStatus.compare}
	unknown, err := l.live(ctx, s, wanted, func(f liveFlow) {
		if (q.VIP == "" || q.VIP == f.name.Name) && (!q.Client.IsValid() || q.Client.Contains(f.client.Addr())) {
			kept.add(s.status(f))
		}
	})
	if err != nil {
		return FlowList{}, err
	}
	list := FlowList{Total: kept.seen, Behind: s.behind, Displaced: l.displaced(), Unknown: append([]UnknownFlows{}, unknown...)}
	list.Flows, list.More = kept.take()
	if list.Total == 0 {
		list.Why = s.nothing(wanted, unknown)
	}
	return list, nil
}

// wanted gives the reals that flows are asked of.
func (q FlowQuery) wanted(in *inputs) (func(realID) bool, error) {
	farm := ""
	if q.VIP != "" {
		var names []string
		for _, v := range in.cfg.VIPs {
			names = append(names, v.Name)
			if v.Name == q.VIP {
				farm = v.Farm
			}
		}
		if farm == "" {
			return nil, fmt.Errorf("%w: no VIP is called %.80q; there are %q", ErrQuery, q.VIP, names)
		}
	}
	id := realID{}
	if q.Real != "" {
		var ok bool
		if id.farm, id.name, ok = strings.Cut(q.Real, "/"); !ok {
			return nil, fmt.Errorf("%w: real %.80q; want FARM/NAME, as in `show real`", ErrQuery, q.Real)
		}
		if !in.knows(id) {
			return nil, fmt.Errorf("%w: farm %.80q has no real %.80q; `show real` lists those there are", ErrQuery, id.farm, id.name)
		}
	}
	return func(r realID) bool { return (farm == "" || r.farm == farm) && (q.Real == "" || r == id) }, nil
}

// knows says whether there is such a real, in the config or on its way out of it.
func (in *inputs) knows(id realID) bool {
	if _, r := in.cfg.find(id); r != nil {
		return true
	}
	for _, rec := range in.states[id.farm] {
		if rec.Name == id.name {
			return true
		}
	}
	return false
}

func (s *snapshot) status(f liveFlow) FlowStatus {
	c := chooser{tables: s.have}
	name := func(index uint16) string {
		if addr := c.addr(index); addr.IsValid() {
			return s.in.nameOf(f.farm, addr)
		}
		return ""
	}
	return FlowStatus{
		Client: f.client, VIP: f.vip, Name: f.name.Name, Protocol: f.protocol(), Farm: f.farm, Real: f.real, Address: f.at, Source: f.source,
		Slot:      FlowSlot{int(f.choice.slot), name(f.choice.pair.primary), name(f.choice.pair.secondary)},
		Elsewhere: f.choice.known && c.addr(f.choice.pair.primary) != f.at,
	}
}

func (f FlowStatus) compare(o FlowStatus) int {
	return cmp.Or(cmp.Compare(f.Farm, o.Farm), cmp.Compare(f.Real, o.Real), f.Client.Compare(o.Client), f.VIP.Compare(o.VIP),
		cmp.Compare(f.Protocol, o.Protocol))
}

// nothing says why no flow is known.
func (s *snapshot) nothing(wanted func(realID) bool, unknown []UnknownFlows) string {
	agents := 0
	for i := range s.in.cfg.Farms {
		f := &s.in.cfg.Farms[i]
		for _, is := range s.in.situations(f) {
			if f.Agent != nil && wanted(realID{f.Name, is.name}) {
				agents++
			}
		}
	}
	failed := 0
	for _, u := range unknown {
		if u.Real != "" {
			failed++
		}
	}
	switch {
	case agents == 0 && !s.have.tracks():
		return "there is no agent to ask, and no slot is in transition: in the steady state a balancer keeps no table of flows; " +
			"run `anycastle real` with real.agent on the reals and give their farm an `agent`"
	case agents == 0:
		return "there is no agent to ask, and no flow that was asked for began in a transition"
	case agents == failed:
		return "no agent could be asked"
	}
	return fmt.Sprintf("%d agents were asked, and have no such flow", agents-failed)
}

// parseFlowQuery reads the query of a URL.
func parseFlowQuery(v url.Values) (FlowQuery, error) {
	q := FlowQuery{VIP: v.Get("vip"), Real: v.Get("real")}
	for key := range v {
		switch key {
		case "vip", "real", "client", "limit":
		default:
			return q, fmt.Errorf("%w: %.80q is unknown; there are vip, real, client and limit", ErrQuery, key)
		}
	}
	var err error
	if text := v.Get("client"); text != "" {
		if q.Client, err = ParsePrefix(text); err != nil {
			return q, fmt.Errorf("%w: %w", ErrQuery, err)
		}
	}
	if text := v.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 {
			return q, fmt.Errorf("%w: limit %.80q; give 1 to %d", ErrQuery, text, MaxFlows)
		}
	}
	return q, nil
}

// Values gives the query as a URL has it.
func (q FlowQuery) Values() url.Values {
	v := url.Values{}
	set := func(key, value string) {
		if value != "" {
			v.Set(key, value)
		}
	}
	set("vip", q.VIP)
	set("real", q.Real)
	if q.Client.IsValid() {
		set("client", q.Client.String())
	}
	if q.Limit != 0 {
		set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// ParsePrefix reads a network such as 192.0.2.0/24, or an address, which stands for itself alone.
func ParsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%.80q is no network such as 192.0.2.0/24, nor an address", text)
	}
	return p.Masked(), nil
}

// serveFlows answers with a FlowList.
func (l *LB) serveFlows(w http.ResponseWriter, r *http.Request) {
	q, err := parseFlowQuery(r.URL.Query())
	var list FlowList
	if err == nil {
		list, err = l.Flows(r.Context(), q)
	}
	l.reply(w, list, err)
}

// replyTime bounds the sending of an answer.
const replyTime = 5 * time.Second

// reply sends an answer, or says why there is none. What is wrong with the question is told with status 422.
func (l *LB) reply(w http.ResponseWriter, answer any, err error) {
	switch {
	case errors.Is(err, ErrQuery):
		http.Error(w, strings.TrimPrefix(err.Error(), ErrQuery.Error()+": "), http.StatusUnprocessableEntity)
		return
	case errors.Is(err, ErrNotRunning):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(replyTime)) // a recorder of a test has none
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		l.log.Warn("answer a question", "err", err)
	}
}
