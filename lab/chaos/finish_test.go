package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"anycastle/internal/proctest"
)

// await waits until all replicas have what the newest one has at this moment, and operations are acknowledged again.
func (c *chaos) await(what string) {
	want, count, deadline := c.watch.newest(), c.h.Ended(Acknowledged), time.Now().Add(settleTime)
	for c.watch.behind(want) != "" || c.h.Ended(Acknowledged) < count+10 {
		if time.Now().After(deadline) {
			c.t.Errorf("not within %v: %s; behind: %s; %d acknowledged since", settleTime, what, c.watch.behind(want), c.h.Ended(Acknowledged)-count)
			return
		}
		time.Sleep(lookEvery)
	}
	c.say("%s", what)
}

// finish stops all stores, compares them with the history, and says what came of it.
func (c *chaos) finish(r *row, seed uint64) {
	c.settle()
	var trees [][]Tree
	for _, l := range c.w.luns() {
		var replicas []Tree
		for _, name := range c.w.replicas(l) {
			tree, err := ReadTree(name, filepath.Join(c.w.disks[name].at, l.name))
			if err != nil {
				c.t.Errorf("a tree that nobody can read: %v", err)
			}
			replicas = append(replicas, tree)
		}
		trees = append(trees, replicas)
	}
	c.sane(trees)
	two := TwoActive(c.watch.samples)
	r.Case, r.Seed, r.Seconds, r.Faults, r.Kinds = "chaos", seed, int(time.Since(c.begun).Seconds()), c.struck(), c.counts
	r.Verdict = c.h.Check(trees...)
	r.Unknown, r.Refused, r.TwoActive, r.Stale, r.Fell = c.h.Ended(Unknown), c.h.Ended(Refused), len(two), len(c.l.stale), c.fell
	for _, line := range slices.Concat(r.Findings, two, c.l.stale) {
		c.t.Error(line)
	}
	for said, n := range c.l.refused {
		c.t.Errorf("refused for good, %d times: %s", n, said)
	}
	if err := errors.Join(c.errs...); err != nil {
		c.t.Errorf("faults that went wrong, or processes that ended: %v", err)
	}
	text, err := json.Marshal(r)
	proctest.Check(c.t, err)
	fmt.Printf("%s\n", text)
	if *reportFlag != "" {
		proctest.Check(c.t, errors.Join(os.MkdirAll(*reportFlag, 0o755), os.WriteFile(filepath.Join(*reportFlag, "chaos.json"), fmt.Appendf(nil, "[\n  %s\n]\n", text), 0o644)))
	}
}

// sane fails a run that has looked at nothing.
func (c *chaos) sane(luns [][]Tree) {
	for _, replicas := range luns {
		for _, t := range replicas {
			if slices.ContainsFunc(t.messages(), func(m Stored) bool { return m.UID != 0 && m.Modseq == 0 }) {
				c.t.Errorf("%s has messages without a MODSEQ", t.Name)
			}
			if len(t.messages()) == 0 {
				c.t.Errorf("%s has no mail", t.Name)
			}
		}
	}
	for _, l := range c.w.luns() {
		n := 0
		for _, s := range c.watch.samples {
			if s.LUN == l.name && s.Active {
				n++
			}
		}
		if n == 0 {
			c.t.Errorf("nobody was ever seen to be active for %s", l.name)
		}
	}
}

// settle has all replicas scrubbed, now that no client works, waits until all have all, and ends the stores cleanly.
func (c *chaos) settle() {
	ctx, cancel := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.watch.run(ctx) })
	if n := c.l.collect(ctx); n > 0 {
		c.t.Errorf("not within %v: %d messages that users have submitted arrive", settleTime, n)
	}
	c.still("all replicas have the last operation")
	c.scrub()
	c.still("all replicas have what the scrub found missing")
	cancel()
	wg.Wait()
	for _, name := range c.w.storeHosts() {
		if err := c.w.roles[name+"-store"].stop(proctest.Patience); err != nil {
			c.t.Errorf("end of a store: %v", err)
		}
	}
}

// still waits until nothing has happened for a second, and all replicas have everything.
func (c *chaos) still(what string) {
	since, want := time.Now(), c.watch.newest()
	deadline := since.Add(settleTime)
	for time.Since(since) < time.Second && time.Now().Before(deadline) {
		if now := c.watch.newest(); c.watch.behind(now) != "" || !maps.Equal(now, want) {
			want, since = now, time.Now()
		}
		time.Sleep(lookEvery)
	}
	if late := c.watch.behind(want); late != "" {
		c.t.Errorf("not within %v: %s; behind: %s", settleTime, what, late)
	}
	c.say("%s", what)
}

// scrub has every body at every replica read, so that what has rotten is found and fetched again.
func (c *chaos) scrub() {
	since, deadline := time.Now(), time.Now().Add(settleTime)
	for _, l := range c.w.luns() {
		active := c.watch.active(l.name)
		if _, err := tool(binary, "lun", "scrub", l.name, "--run-dir", c.w.path("run-"+active+"-store")); err != nil {
			c.t.Errorf("scrub %s at %q: %v", l.name, active, err)
			return
		}
	}
	for late := c.watch.scrubbed(since); late != ""; late = c.watch.scrubbed(since) {
		if time.Now().After(deadline) {
			c.t.Errorf("not within %v: a scrub of %s", settleTime, late)
			return
		}
		time.Sleep(lookEvery)
	}
}

// keepLogs copies what the processes said to the report when there is one, or says where to find it when the test failed.
func (c *chaos) keepLogs() {
	dir := *reportFlag
	if dir == "" && c.t.Failed() {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("chaos-%d", os.Getpid()))
	}
	if dir == "" {
		return
	}
	for _, pattern := range []string{"*.log", "*.jsonl", "*.yml"} {
		files, err := filepath.Glob(c.w.path(pattern))
		proctest.Check(c.t, err)
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil {
				_ = os.MkdirAll(dir, 0o755) // the write says so
				if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), text, 0o644); err != nil {
					c.t.Error(err)
				}
			}
		}
	}
	fmt.Println("logs and operations are in", dir)
}
