package gss

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/mesh"
)

// A drain is over when every GSS that counts says so for this very order, whatever its clock says.
func TestDrainAtAllVantages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbing(t, nil, func(c *Config) {
			c.Mesh = &mesh.Config{Listen: netip.MustParseAddrPort("198.51.100.7:7946"), Key: make(mesh.Key, 32)}
		})
		other := mesh.Member{Name: "gss-west", Address: netip.MustParseAddrPort("198.51.100.8:7946"), State: mesh.Alive}
		p.engine.mesh.Remember([]mesh.Member{other}, time.Now())
		p.run()
		defer p.end()
		p.after(time.Second)
		kept, err := p.engine.order(Order{Kind: decide.KindDrain, Site: "east"})
		if err != nil {
			t.Fatal(err)
		}
		number := int64(0)
		look := func(step string, says []drained, want VantageDrain) {
			t.Helper()
			if says != nil {
				texts, err := encodeTellings(1, &number, nil, says)
				if err != nil || len(texts) != 1 {
					t.Fatal(texts, err)
				}
				p.engine.told("gss-west", string(texts[0]))
			}
			synctest.Wait()
			got := p.Orders()[0].Others
			if len(got) != 1 {
				t.Fatalf("%s: %+v", step, got)
			}
			want.Vantage, want.Heard, want.Clear = "gss-west", got[0].Heard, got[0].Clear
			if got[0] != want {
				t.Errorf("%s: %+v, want %+v", step, got[0], want)
			}
		}
		since := kept.Since.UnixNano()
		look("never heard", nil, VantageDrain{})
		look("heard", []drained{}, VantageDrain{Counts: true})
		look("another order", []drained{{Order: "site/east", Since: since - 1}}, VantageDrain{Counts: true})
		look("taken", []drained{{Order: "site/east", Since: since, Left: 700}}, VantageDrain{Counts: true, Taken: true})
		p.after(600 * time.Millisecond)
		look("not over", nil, VantageDrain{Counts: true, Taken: true})
		p.after(200 * time.Millisecond)
		look("over", nil, VantageDrain{Counts: true, Taken: true, Done: true})
		look("given", []drained{{Order: "site/east", Since: since, Given: true}}, VantageDrain{Counts: true, Taken: true, Given: true})
		look("done", []drained{{Order: "site/east", Since: since}}, VantageDrain{Counts: true, Taken: true, Done: true})
		p.after(5 * time.Second)
		look("silent", nil, VantageDrain{Taken: true})
	})
}

// What a GSS tells of its drains is what it decided, and of an order that is about nothing here that it gives nothing.
func TestDrainsThatAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		p.after(time.Second)
		if _, err := p.engine.order(Order{Kind: decide.KindDrain, Site: "east"}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		other := Order{Kind: decide.KindDrain, Answer: "smtp-south", Since: began}
		text := []byte(`{"kind":"drain","answer":"smtp-south","since":"2000-01-01T00:00:01Z"}`)
		if err := p.engine.data.Set(other.key(), text); err != nil {
			t.Fatal(err)
		}
		tells := func() []drained {
			p.engine.mu.Lock()
			defer p.engine.mu.Unlock()
			return tellDrains(p.engine.drains(time.Now()), time.Now())
		}
		synctest.Wait()
		got := tells()
		if len(got) != 2 || got[0].Order != "answer/smtp-south" || got[0].Left != 0 || got[1].Order != "site/east" || got[1].Left != 6000 || !got[1].Given {
			t.Errorf("at first it tells %+v", got)
		}
		p.after(7 * time.Second)
		if got := tells(); len(got) != 2 || got[1].Left != 0 || got[1].Given {
			t.Errorf("at the end it tells %+v", got)
		}
		p.sites.set(west)
		p.after(2 * time.Second)
		if got := tells(); len(got) != 2 || !got[1].Given {
			t.Errorf("when nothing else works it tells %+v", got)
		}
		if _, err := p.engine.order(Order{Kind: decide.KindSuspend, Answer: "smtp-east"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := tells(); len(got) != 2 || got[1].Left == 0 || got[1].Given {
			t.Errorf("when the answer is suspended it tells %+v", got)
		}
	})
}

// While the replies of a decision are made, those of the one before give the answer on: no drain is over before resolvers may have
// dropped what was given last, whoever asks.
func TestDrainWhileRepliesAreMade(t *testing.T) {
	for _, kind := range []decide.Kind{decide.KindDrain, decide.KindSuspend} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProbing(t, nil, func(c *Config) {
					c.Mesh = &mesh.Config{Listen: netip.MustParseAddrPort("198.51.100.7:7946"), Key: make(mesh.Key, 32)}
				})
				p.engine.build = slowly(3 * time.Second)
				p.run()
				defer p.end()
				p.after(8 * time.Second)
				if _, err := p.engine.order(Order{Kind: decide.KindDrain, Site: "east"}); err != nil {
					t.Fatal(err)
				}
				if _, err := p.engine.order(Order{Kind: kind, Answer: "smtp-east"}); err != nil {
					t.Fatal(err)
				}
				var held time.Time // by resolvers
				for range 400 {
					p.after(100 * time.Millisecond)
					if p.ask() == east {
						served := p.engine.current.Load()
						held = time.Now().Add(served.decision.Rules["smtp"].TTL)
					}
					over := !time.Now().Before(held)
					p.engine.mu.Lock()
					told := tellDrains(p.engine.drains(time.Now()), time.Now())
					p.engine.mu.Unlock()
					for _, d := range told {
						if given := p.ask() == east; given && !d.Given || !over && !d.Given && d.Left == 0 {
							t.Fatalf("it is given: %v, may be held for %v, and others are told %+v", given, time.Until(held), d)
						}
					}
					for _, o := range p.Orders() {
						for _, a := range o.Answers {
							if a.Done && !over || a.Given != (p.ask() == east) || a.Clear.Before(held) {
								t.Fatalf("it may be held for %v, and the drain is %+v", time.Until(held), a)
							}
						}
					}
				}
				if a := p.Orders()[1].Answers; len(a) != 1 || !a[0].Done || held.IsZero() {
					t.Errorf("at the end the drain is %+v", a)
				}
			})
		})
	}
}
