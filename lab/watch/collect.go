package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"anycastle/internal/daemon"
	"anycastle/lab/runner"
)

const (
	// answerTime is how long a role may take for one answer until it counts as one that hangs. All answers of a lab come
	// within a tenth of it unless the machine is overloaded.
	answerTime = 1500 * time.Millisecond
	// parallel is how many nodes are asked at a time. Nodes that hang must not keep the rest waiting, and asking costs
	// little, so it is more than most labs have.
	parallel = 64
	// maxEvents is how many events are kept.
	maxEvents = 400
)

// Collector finds out how a lab is. It belongs to one goroutine.
type Collector struct {
	lab    *runner.Lab
	logs   map[string]*tail // by node
	events []Event          // by time
}

// NewCollector makes a collector for a lab, which must outlive it. Nothing has to be closed.
func NewCollector(lab *runner.Lab) *Collector {
	return &Collector{lab: lab, logs: map[string]*tail{}}
}

// Collect finds out how the lab is now. Nodes that are dead or hang are part of the answer, which takes no longer for
// them than a second or so; the error says that the lab itself cannot be read.
func (c *Collector) Collect(ctx context.Context) (*State, error) {
	began := time.Now()
	status, err := c.lab.Status()
	if err != nil {
		return nil, fmt.Errorf("look at lab %s: %w", c.lab.Name, err)
	}
	all := make([]found, len(status.Nodes))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, n := range status.Nodes {
		if root, err := c.lab.NodeRoot(n.Name); err == nil {
			g.Go(func() error {
				all[i] = ask(ctx, filepath.Join(root, daemon.DefaultRunDir))
				return nil
			})
		}
	}
	g.Wait() // no error: what a node does not say is found nowhere
	if err := ctx.Err(); err != nil && context.Cause(ctx) != nil && len(all) == 0 {
		return nil, err
	}
	byNode := map[string]found{}
	for i, n := range status.Nodes {
		byNode[n.Name] = all[i]
	}
	c.readLogs()
	s := build(c.lab.Topology, status, byNode)
	s.At, s.TookMS = began, float64(time.Since(began).Microseconds())/1000
	s.Events = slices.Clone(c.events)
	return s, nil
}

// ask asks every role that has, or has had, a socket in a node's run folder.
func ask(ctx context.Context, runDir string) found {
	var f found
	entries, err := os.ReadDir(runDir)
	if err != nil {
		return f // no role has ever run there
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".sock"); ok {
			f.roles = append(f.roles, f.askRole(ctx, runDir, name))
		}
	}
	return f
}

// askRole asks one role how it is, and for what only such a role knows.
func (f *found) askRole(ctx context.Context, runDir, name string) Role {
	get := func(path string, v any) error {
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		return daemon.Get(ctx, runDir, name, path, v)
	}
	err := get("/healthz", nil)
	role := Role{Name: name, State: "up"}
	switch {
	case errors.Is(err, daemon.ErrNotRunning):
		return Role{Name: name, State: "down", Why: "its process does not run"}
	case errors.Is(err, context.DeadlineExceeded):
		return Role{Name: name, State: "hangs", Why: fmt.Sprintf("no answer for %v", answerTime)}
	case err != nil:
		role.State, role.Why = "failing", strings.TrimSpace(err.Error())
	}
	for _, q := range f.questions(name) {
		// a role that has nothing to say of one thing, such as a balancer that announces nothing, still knows the others
		if err := get(q.path, q.into); errors.Is(err, context.DeadlineExceeded) {
			return Role{Name: name, State: "slow", Why: fmt.Sprintf("no answer for %v to %s", answerTime, q.path)}
		}
	}
	return role
}

type question struct {
	path string
	into any
}

func (f *found) questions(role string) []question {
	switch role {
	case "lb":
		return []question{{"/v1/vip", &f.vips}, {"/v1/real", &f.reals}, {"/v1/announcement", &f.announcements}}
	case "rhi":
		return []question{{"/v1/route", &f.routes}, {"/v1/peer", &f.peers}}
	case "gss":
		return []question{{"/v1/answer", &f.answers}, {"/v1/rule", &f.rules}}
	case "store", "witness":
		return []question{{"/v1/lun", &f.luns}}
	}
	return nil
}

// readLogs adds what the nodes have logged since the last time.
func (c *Collector) readLogs() {
	for _, n := range c.lab.Topology.Nodes {
		t := c.logs[n.Name]
		if t == nil {
			t = &tail{path: c.lab.LogPath(n.Name)}
			c.logs[n.Name] = t
		}
		for _, line := range t.read() {
			if e, ok := parseEvent(line); ok {
				e.Node = n.Name
				c.events = append(c.events, e)
			}
		}
	}
	slices.SortStableFunc(c.events, func(a, b Event) int { return a.At.Compare(b.At) })
	if n := len(c.events) - maxEvents; n > 0 {
		c.events = slices.Clone(c.events[n:])
	}
}
