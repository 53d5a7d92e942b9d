package gss

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/mesh"
	"anycastle/internal/probe"
	"anycastle/internal/wholefile"
)

// views are what the probes of an answer say here, and what the others are told.
func (p *probing) views(answer string) (own, told decide.View) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	w := p.engine.watched[answer]
	return w.seen().View, w.tells().View
}

// One probe that is lost after a restart takes nothing out that was agreed to pass lately; fail decides, as ever.
func TestRestartAndOneLostProbe(t *testing.T) {
	for name, tc := range map[string]struct {
		away   time.Duration
		old    string // of the node file
		new    string
		want   string
		before decide.View // of east
	}{
		"lately":          {time.Minute, "", "", east, decide.Passing},
		"long ago":        {25 * time.Hour, "", "", west, decide.Failing},
		"another address": {time.Minute, "203.0.113.110", "203.0.113.111", west, decide.Failing},
		"another probe":   {time.Minute, "{type: tcp, port: 25", "{type: tcp, port: 26", west, decide.Failing},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				p := startProbing(t)
				p.after(5 * time.Second)
				p.end()
				if err := p.engine.write(dir, &written{}); err != nil {
					t.Fatal(err)
				}
				<-time.After(tc.away)
				q := newProbing(t, nil, func(c *Config) {
					*c = mustDecode(t, strings.Replace(nodeFile, tc.old, tc.new, 1))
					c.Answers[0].Addresses = c.Answers[0].Addresses[:1]
				})
				if err := q.engine.load(dir); err != nil {
					t.Fatal(err)
				}
				q.sites.set(east, "203.0.113.111")
				q.run()
				defer q.end()
				q.after(300 * time.Millisecond)
				if own, _ := q.views("smtp-east"); q.ask() != tc.want || own != tc.before {
					t.Errorf("after one probe that failed the answer is %s: %s", q.ask(), q.Answers()[0].Why)
				}
				q.after(500 * time.Millisecond)
				if got := q.ask(); got != west {
					t.Errorf("after two the answer is %s", got)
				}
			})
		})
	}
}

// What is assumed is no view that others are told, and counts on if this machine cannot probe.
func TestRestartWithoutProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := startProbing(t)
		p.after(5 * time.Second)
		p.end()
		if err := p.engine.write(dir, &written{}); err != nil {
			t.Fatal(err)
		}
		q := newProbing(t, nil)
		if err := q.engine.load(dir); err != nil {
			t.Fatal(err)
		}
		q.sites.fail(east, syscall.EMFILE)
		q.run()
		defer q.end()
		q.after(time.Second)
		if q.engine.current.Load() != nil {
			t.Error("it answers before it has probed")
		}
		q.after(leastWait)
		if own, told := q.views("smtp-east"); q.ask() != east || own != decide.Passing || told != decide.NoView {
			t.Errorf("the answer is %s, %s here, and others are told %q", q.ask(), own, told)
		}
	})
}

// Who was in the mesh before a restart is missed after it.
func TestRestartInAPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, in := t.TempDir(), func(c *Config) {
			c.Mesh = &mesh.Config{Listen: netip.MustParseAddrPort("198.51.100.7:7946"), Key: make(mesh.Key, 32)}
		}
		others := []mesh.Member{
			{Name: "gss-west", Address: netip.MustParseAddrPort("198.51.100.8:7946"), State: mesh.Alive},
			{Name: "gss-north", Address: netip.MustParseAddrPort("198.51.100.9:7946"), State: mesh.Alive},
			{Name: "gss-gone", Address: netip.MustParseAddrPort("198.51.100.10:7946"), State: mesh.Left},
		}
		p := newProbing(t, nil, in)
		p.engine.mesh.Remember(others, time.Now())
		p.run()
		p.after(5 * time.Second)
		p.end()
		if err := p.engine.write(dir, &written{}); err != nil {
			t.Fatal(err)
		}
		q := newProbing(t, nil, in)
		if err := q.engine.load(dir); err != nil {
			t.Fatal(err)
		}
		q.run()
		defer q.end()
		q.after(time.Second)
		if v := q.Answers()[0].Votes; v.Known != 3 || v.Heard != 1 || v.Quorum {
			t.Errorf("after a restart without the others the votes are %+v", v)
		}
	})
}

// What cannot be read is forgotten, each for itself.
func TestBrokenFilesOfBefore(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{stateFile: `{"generation":7}`, aroundFile: `{"at":"yesterday"}`} {
		if err := writeFile(filepath.Join(dir, name), text); err != nil {
			t.Fatal(err)
		}
	}
	g, err := New(mustDecode(t, nodeFile), Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = g.engine.load(dir)
	if is := g.engine.watched["smtp-east"].targets[0].state; err != nil || g.engine.state.Generation < 7 || is != probe.Unknown {
		t.Errorf("loaded with %v: %+v", err, g.engine.state)
	}
}

// A crash loses the last generations that were given out, and a lost disk all: none is given to another decision.
func TestGenerationsAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		start := func() *probing {
			p := newProbing(t, nil)
			if err := p.engine.load(dir); err != nil {
				t.Fatal(err)
			}
			p.run()
			p.after(time.Second)
			return p
		}
		p := start()
		first := p.Server().Generation
		if err := p.engine.write(dir, &written{}); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			p.sites.set([]string{east, west}[i%2])
			p.after(2 * time.Second)
		}
		last := p.Server().Generation
		p.end()
		q := start()
		q.end()
		if got := q.Server().Generation; last < first+20 || got <= last {
			t.Errorf("generations %d to %d were used; after a crash it is %d", first, last, got)
		}
		dir = t.TempDir()
		r := start()
		r.end()
		if got := r.Server().Generation; got <= last {
			t.Errorf("generations to %d were used; without a disk it is %d", last, got)
		}
	})
}

// Where nothing happens the decisions are not written again and again, though others are made all the time; but at the end.
func TestWhenDecisionsAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startProbing(t)
		defer p.end()
		dir := t.TempDir()
		path := filepath.Join(dir, stateFile)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := p.engine.keep(ctx, dir); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
		p.after(2 * time.Second)
		written, last := 0, []byte(nil)
		for range 60 {
			p.engine.kick()
			p.after(time.Second)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(text, last) {
				written++
			}
			last = text
		}
		if written < 5 || written > 8 {
			t.Errorf("in a minute they were written %d times", written)
		}
		p.engine.kick()
		synctest.Wait()
		cancel()
		wg.Wait()
		text, err := os.ReadFile(path)
		if want, _ := json.Marshal(p.engine.state); err != nil || !bytes.Equal(text, want) {
			t.Errorf("at the end there are\n%s\nwant\n%s", text, want)
		}
	})
}

// A second process with the directory of one that runs writes nothing there, and says how it is mended.
func TestStateOfAnotherProcess(t *testing.T) {
	cfg := mustDecode(t, nodeFile)
	held, err := hold(cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(cfg, Options{Probe: (&sites{}).probe})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = g.Run(ctx)
	if !errors.Is(err, wholefile.ErrHeld) || !strings.HasSuffix(err.Error(), "stop that one, or give this one another directory with gss.state_dir") {
		t.Errorf("it ends with %v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.StateDir, ordersFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("orders: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
}
