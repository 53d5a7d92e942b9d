package sign

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fakeParent answers as servers of a parent and as a resolver do.
type fakeParent struct {
	mu      sync.Mutex
	answers map[string]string // records, by server, name and type
	asked   []string
}

func (f *fakeParent) exchange(_ context.Context, q *dns.Msg, server string) (*dns.Msg, error) {
	key := fmt.Sprint(server, " ", q.Question[0].Name, " ", dns.Type(q.Question[0].Qtype))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, key)
	text, ok := f.answers[key]
	if !ok {
		return nil, fmt.Errorf("nobody at %s", server)
	}
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = text != "lame"
	if text == "refused" {
		m.Rcode = dns.RcodeRefused
	}
	for line := range strings.Lines(text) {
		if rr, err := dns.NewRR(line); err == nil && rr != nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m, nil
}

// observation is what servers answer, and what comes of it.
type observation struct {
	servers []string
	answers map[string]string
	sets    [][]string
	partial bool
	fails   bool
}

func observations(id, ds, foreign string) map[string]observation {
	return map[string]observation{
		"all agree": {
			answers: map[string]string{"192.0.2.1:53": ds, "192.0.2.2:53": ds, "[2001:db8::1]:53": ds},
			sets:    [][]string{{id}},
		},
		"one address of a server is silent": {
			answers: map[string]string{"192.0.2.1:53": ds, "192.0.2.2:53": ds}, sets: [][]string{{id}},
		},
		"one server is silent": {
			answers: map[string]string{"192.0.2.1:53": ds}, sets: [][]string{{id}}, partial: true,
		},
		"one is late": {
			answers: map[string]string{"192.0.2.1:53": ds, "192.0.2.2:53": ""}, sets: [][]string{{id}, {}},
		},
		"one is lame": {
			answers: map[string]string{"192.0.2.1:53": ds, "192.0.2.2:53": "lame"}, sets: [][]string{{id}},
			partial: true,
		},
		"one refuses": {
			answers: map[string]string{"192.0.2.1:53": ds, "192.0.2.2:53": "refused"}, sets: [][]string{{id}},
			partial: true,
		},
		"another's DS": {
			servers: []string{"198.51.100.1:5353"}, answers: map[string]string{"198.51.100.1:5353": foreign},
			sets: [][]string{{foreign[24:]}},
		},
		"nobody": {fails: true},
	}
}

func TestParentIsObserved(t *testing.T) {
	t.Parallel()
	key := newTestKey(t, "zone.example.net.", dns.ECDSAP256SHA256)
	ds := key.DS()
	ds.Hdr.Ttl = 7200
	foreign := "zone.example.net. 60 IN DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000"
	resolver := map[string]string{
		"r example.net. NS":    "example.net. NS ns1.example.net.\nexample.net. NS ns2.example.net.",
		"r ns1.example.net. A": "ns1.example.net. A 192.0.2.1", "r ns1.example.net. AAAA": "ns1.example.net. AAAA 2001:db8::1",
		"r ns2.example.net. A": "ns2.example.net. A 192.0.2.2", "r ns2.example.net. AAAA": "",
	}
	for name, c := range observations(key.ID(), ds.String(), foreign) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fakeParent{answers: map[string]string{}}
			for k, v := range resolver {
				f.answers[k] = v
			}
			for server, text := range c.answers {
				f.answers[server+" zone.example.net. DS"] = text
			}
			p := Parent{Exchange: f.exchange, Resolver: "r", Servers: c.servers}
			o, err := p.Observe(t.Context(), "Zone.Example.net", map[string]*Key{key.ID(): key}, func() time.Time { return epoch })
			if c.fails {
				if err == nil {
					t.Errorf("got %+v", o)
				}
				return
			}
			sort := func(sets [][]string) [][]string { slices.SortFunc(sets, slices.Compare); return sets }
			if err != nil || !slices.EqualFunc(sort(o.Sets), sort(c.sets), same) || o.Complete == c.partial || !o.At.Equal(epoch) {
				t.Errorf("got %+v, %v", o, err)
			}
			if c.servers == nil && o.TTL != 2*time.Hour {
				t.Errorf("got TTL %v", o.TTL)
			}
		})
	}
}
