package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"anycastle/lab/look"
	"anycastle/lab/runner"
	"anycastle/lab/topology"
)

// ErrNotMine says that a statement is none that Do carries out.
var ErrNotMine = errors.New("not a change of the lab")

// Do carries out a statement that changes the lab. What is about several nodes happens to all at the same time.
func Do(ctx context.Context, lab *look.Lab, s Step) error {
	err := do(ctx, lab, s)
	if err != nil && !errors.Is(err, ErrNotMine) {
		return fmt.Errorf("line %d: %s: %w", s.Line, s, err)
	}
	return err
}

func do(ctx context.Context, lab *look.Lab, s Step) error {
	nodes, err := s.Nodes.Pick(lab.Topology)
	if err != nil {
		return err
	}
	switch s.Verb {
	case "cut", "heal":
		return s.links(lab, nodes)
	case "power-off":
		return lab.PowerOff(ctx, nodes...)
	case "power-on":
		return lab.PowerOn(ctx, nodes...)
	}
	one := s.one(lab)
	if one == nil {
		return ErrNotMine
	}
	errs := make([]error, len(nodes))
	var g errgroup.Group
	for i, node := range nodes {
		g.Go(func() error {
			errs[i] = one(ctx, node)
			return nil
		})
	}
	g.Wait() // an error of one node must not keep the others from it
	return errors.Join(errs...)
}

// one gives what is done to each node; nil when the statement is not about nodes.
func (s Step) one(lab *look.Lab) func(context.Context, string) error {
	port := func(do func(string, uint16) error) func(context.Context, string) error {
		return func(_ context.Context, node string) error {
			n, err := strconv.ParseUint(s.Word, 10, 16)
			return errors.Join(err, do(node, uint16(n)))
		}
	}
	role := func(do func(context.Context, string, string) error) func(context.Context, string) error {
		return func(ctx context.Context, node string) error {
			if s.Word == "all" {
				return do(ctx, node, "")
			}
			return do(ctx, node, s.Word)
		}
	}
	switch s.Verb {
	case "kill":
		return lab.Kill
	case "stop":
		return lab.Stop
	case "start":
		return lab.Start
	case "pause":
		return role(lab.Pause)
	case "resume":
		return role(lab.Resume)
	case "block":
		return port(lab.Block)
	case "unblock":
		return port(lab.Unblock)
	case "fill-disk":
		return lab.FillDisk
	case "free-disk":
		return lab.FreeDisk
	case "run":
		return func(ctx context.Context, node string) error {
			_, err := output(ctx, lab, node, s.Args)
			return err
		}
	case "until":
		return func(ctx context.Context, node string) error { return s.until(ctx, lab, node) }
	case "replace":
		return func(_ context.Context, node string) error { return replace(lab, node, s.Args[0], s.Args[1]) }
	case "restore":
		return func(_ context.Context, node string) error { return restore(lab, node) }
	case "drain":
		return func(ctx context.Context, node string) error { return Order(ctx, lab, node, "drain") }
	case "activate":
		return func(ctx context.Context, node string) error { return Order(ctx, lab, node, "activate") }
	}
	return nil
}

// links cuts or heals.
func (s Step) links(lab *look.Lab, nodes []string) error {
	pick := runner.All()
	switch s.Word {
	case "around":
		pick = runner.Around(nodes...)
	case "between":
		far, err := s.Other.Pick(lab.Topology)
		if err != nil {
			return err
		}
		pick = between(nodes, far)
	}
	change := lab.Cut
	if s.Verb == "heal" {
		change = lab.Heal
	}
	_, err := change(pick)
	return err
}

// between picks the links with an end at each side.
func between(near, far []string) runner.Selector {
	return func(l topology.Link) bool {
		joins := func(a, b topology.Endpoint) bool {
			return slices.Contains(near, a.Node) && slices.Contains(far, b.Node)
		}
		return joins(l.A, l.B) || joins(l.B, l.A)
	}
}

// output runs a command in a node and gives what it printed.
func output(ctx context.Context, lab *look.Lab, node string, argv []string) ([]byte, error) {
	c := lab.Command(ctx, node, argv...)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %s: %w: %s", node, strings.Join(argv, " "), errors.Join(ctx.Err(), err), bytes.TrimSpace(errs.Bytes()))
	}
	return out, nil
}

// until runs the command until its output matches.
func (s Step) until(ctx context.Context, lab *look.Lab, node string) error {
	ctx, cancel := context.WithTimeout(ctx, s.Time)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := output(ctx, lab, node, s.Args)
		if err == nil && s.Match.Match(out) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: not within %v: the output matches %s; it is %q", node, s.Time, s.Match, out), err)
		case <-tick.C:
		}
	}
}

// Order drains or activates a node as a real, at the balancers of its site.
func Order(ctx context.Context, lab *look.Lab, node, verb string) error {
	balancer, as, err := lab.Balancing(ctx, node)
	if err != nil {
		return err
	}
	for _, r := range as {
		if _, err := output(ctx, lab, balancer, []string{"anycastle", verb, r.Farm + "/" + r.Name}); err != nil {
			return err
		}
	}
	return nil
}

// former is the ending of a node file that has been replaced.
const former = ".former"

// nodeFile finds the host's file that a node sees as its node file.
func nodeFile(lab *look.Lab, node string) (string, error) {
	n, _ := lab.Topology.Node(node)
	for _, b := range n.Binds {
		if filepath.Base(b.Target) == "node.yml" {
			if filepath.IsAbs(b.Source) {
				return b.Source, nil
			}
			return lab.SourcePath(b.Source), nil
		}
	}
	return "", fmt.Errorf("%s has no node file", node)
}

// replace changes a text wherever it stands in a node file, in place: the node sees that very file.
func replace(lab *look.Lab, node, old, new string) error {
	path, err := nodeFile(lab, node)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("node file of %s: %w", node, err)
	}
	if !bytes.Contains(text, []byte(old)) {
		return fmt.Errorf("the node file of %s does not hold %q", node, old)
	}
	if _, err := os.Stat(path + former); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(path+former, text, 0o644); err != nil {
			return fmt.Errorf("keep the node file of %s: %w", node, err)
		}
	}
	return os.WriteFile(path, bytes.ReplaceAll(text, []byte(old), []byte(new)), 0o644)
}

// restore undoes every replace of a node.
func restore(lab *look.Lab, node string) error {
	path, err := nodeFile(lab, node)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path + former)
	if err != nil {
		return fmt.Errorf("nothing of %s has been replaced: %w", node, err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("restore the node file of %s: %w", node, err)
	}
	return os.Remove(path + former)
}

// TookOver asks the lab who took over: the next hops of a route, or the active replica of a LUN. "" for what the client
// sees.
func TookOver(ctx context.Context, lab *look.Lab, s Step) (string, error) {
	switch s.Word {
	case "route":
		prefix, err := netip.ParsePrefix(s.Args[0])
		if err != nil {
			return "", err
		}
		hops, err := lab.Via(ctx, s.Nodes[0], prefix)
		return strings.Join(hops, ", "), err
	case "lun":
		return lab.Active(ctx, s.Args[0])
	}
	return "", nil
}
