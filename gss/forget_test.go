package gss

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/mesh"
)

// Three that are gone for good leave the three that live no majority, until they are forgotten.
func TestForgetVantages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbing(t, nil, func(c *Config) {
			c.Mesh = &mesh.Config{Listen: netip.MustParseAddrPort("198.51.100.7:7946"), Key: make(mesh.Key, 32)}
		})
		var gone []mesh.Member
		for i := range 3 {
			addr := netip.MustParseAddrPort(fmt.Sprintf("198.51.100.%d:7946", 20+i))
			gone = append(gone, mesh.Member{Name: fmt.Sprint("gone-", i), Address: addr, State: mesh.Alive})
		}
		lost := time.Now()
		p.engine.mesh.Remember(gone, lost)
		p.run()
		defer p.end()
		for i := range 10 {
			for _, name := range []string{"gss-west", "gss-north"} {
				p.engine.told(name, string(say(t, 1, int64(i+1), "passing")))
			}
			p.after(500 * time.Millisecond)
		}
		if v := p.Answers()[0].Votes; v.Known != 6 || v.Heard != 3 || v.Quorum {
			t.Errorf("with three that are gone the votes are %+v", v)
		}
		if v := p.Vantages()[0]; v.Name != "gone-0" || !v.Lost.Equal(lost) || v.Counts {
			t.Errorf("one that is gone is %+v", v)
		}
		for name, want := range map[string]string{
			"gss-west": "gss-west is heard", "gss-east": "it is this site selector itself",
			"gss-south": `no site selector "gss-south" is missed`, "a b": `"a b" is no name`,
		} {
			if _, err := p.engine.forget(Forget{Vantage: name}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s is forgotten with %v", name, err)
			}
		}
		for _, m := range gone {
			if _, err := p.engine.forget(Forget{Vantage: m.Name, By: "root"}); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if v := p.Answers()[0].Votes; v.Known != 3 || v.Heard != 3 || !v.Quorum {
			t.Errorf("when they are forgotten the votes are %+v", v)
		}
	})
}

// What another GSS hands on is no order unless it could have been given here.
func TestForgetsOfOthers(t *testing.T) {
	const good = `{"vantage":"gss-old","since":"2026-01-01T00:00:00Z","by":"root"}`
	if _, err := decodeForget("gss-old", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no time":   `{"vantage":"gss-old"}`,
		"far time":  strings.Replace(good, "2026", "2300", 1),
		"another's": strings.Replace(good, "gss-old", "gss-new", 1),
		"control":   strings.Replace(good, "root", `\u001b`, 1),
		"more":      good + good,
	} {
		if f, err := decodeForget("gss-old", []byte(text)); err == nil {
			t.Errorf("%s: taken as %+v", name, f)
		}
	}
}

// Whatever clock has stamped it, an order to forget is about who was missed when it came here; and may be given again.
func TestForgetsOfOtherClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := func(c *Config) {
			c.Mesh = &mesh.Config{Listen: netip.MustParseAddrPort("198.51.100.7:7946"), Key: make(mesh.Key, 32)}
		}
		p := newProbing(t, nil, in)
		lost := func(name string) {
			m := mesh.Member{Name: name, Address: netip.MustParseAddrPort("198.51.100.20:7946"), State: mesh.Lost, Since: time.Now()}
			p.engine.mesh.Remember([]mesh.Member{m}, time.Now())
		}
		order := func(name string, ahead time.Duration) {
			text, err := json.Marshal(Forget{Vantage: name, Since: time.Now().Add(ahead).UTC()})
			if err == nil {
				err = p.engine.data.Set(forgetPrefix+name, text)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		known := func(what string, p *probing, want ...string) {
			t.Helper()
			var got []string
			for _, v := range p.Vantages() {
				if !v.Self {
					got = append(got, v.Name)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s the others that count are %v, want %v", what, got, want)
			}
		}
		p.run()
		defer p.end()
		lost("slow")
		p.after(time.Second)
		order("slow", -time.Hour)
		order("fast", time.Hour)
		p.after(time.Second)
		known("forgotten by a slow clock,", p)
		lost("fast") // again, after it had come back
		p.after(time.Second)
		known("lost after a fast clock's order,", p, "fast")
		for range 2 {
			if _, err := p.engine.forget(Forget{Vantage: "slow"}); err != nil {
				t.Errorf("given again: %v", err)
			}
			p.after(time.Second)
		}
		order("slow", -2*time.Hour)
		p.after(time.Second)
		dir := t.TempDir()
		if err := p.engine.write(dir, &written{}); err != nil {
			t.Fatal(err)
		}
		if err := p.engine.data.Save(filepath.Join(dir, ordersFile)); err != nil {
			t.Fatal(err)
		}
		q := newProbing(t, nil, in)
		if err := q.engine.load(dir); err != nil {
			t.Fatal(err)
		}
		known("after a restart", q, "fast")
	})
}
