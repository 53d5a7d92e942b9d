package board

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"anycastle/lab/look"
	"anycastle/lab/runner"
	"anycastle/lab/scenario"
	"anycastle/lab/score"
	"anycastle/lab/topo"
)

// stage is a lab under load.
type stage struct {
	*run
	lab    *look.Lab
	load   *load
	crowd  *runner.Cmd // more sessions, while a scenario wants them
	logs   string
	result *score.Lab
	found  map[string]bool // mails that have been found missing or doubled already

	acknowledged int // mails, when they were last read back
}

// errRuins says that the lab did not come back to what it was.
var errRuins = errors.New("the lab did not settle")

// oneLab builds a lab for the first scenario and goes through all of its topology that it lives through. It says how many.
func (r *run) oneLab(ctx context.Context, list []scenario.Scenario) (done int, err error) {
	s, err := r.build(ctx, list[0].Topology)
	if err != nil {
		return 0, err
	}
	done, err = s.play(ctx, list)
	s.say("removing the lab")
	// the lab goes whatever ended the run, so its removal does not hang on ctx
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	down := errors.Join(s.keepLogs(), s.lab.Down(end, false))
	if done > 0 && errors.Is(err, errRuins) && down == nil {
		r.say("%v; the next fault gets a new lab", err)
		err = nil
	}
	if s.load != nil {
		s.result.Events = s.load.seen.all()
		s.result.Rows = score.Rows(s.result.Topology, s.result.Windows, s.result.Events)
		r.Labs = append(r.Labs, *s.result)
	}
	return done, errors.Join(err, down)
}

func (r *run) build(ctx context.Context, topology string) (*stage, error) {
	files, file, err := topo.Find(topology)
	if err != nil {
		return nil, err
	}
	logs := filepath.Join(r.Logs, strings.TrimSuffix(filepath.Base(topology), ".clab.yml")+"-"+strconv.Itoa(len(r.Labs)+1))
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, fmt.Errorf("folder for the logs: %w", err)
	}
	r.say("building lab %s of topology %s from namespaces", r.Options.Name, topology)
	begun := time.Now()
	lab, err := runner.Up(ctx, runner.Options{
		Topology: file, Files: files, Name: r.Options.Name, Root: r.Root, Prepare: topo.Prepare, DieWithParent: true,
		Progress: func(line string) { r.say("%s", line) },
	})
	if err != nil {
		return nil, err
	}
	s := &stage{run: r, logs: logs, found: map[string]bool{}, result: &score.Lab{Topology: topology, Logs: logs, Up: time.Since(begun)}}
	if s.lab, err = look.New(lab); err != nil {
		return nil, errors.Join(err, lab.Down(context.WithoutCancel(ctx), false))
	}
	return s, nil
}

// firstSettle bounds the wait for a new lab: LUNs begin, sessions come up, gates learn.
const firstSettle = 2 * time.Minute

// play waits until the lab is as it should be, puts the client under way and goes through the scenarios. It says how many
// it has done; more may follow in another lab when the error is errRuins.
func (s *stage) play(ctx context.Context, list []scenario.Scenario) (done int, err error) {
	for _, each := range list {
		if each.Topology == s.result.Topology {
			err = errors.Join(err, each.Check(s.lab.Topology))
		}
	}
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := s.lab.Settle(ctx, firstSettle, s.waits); err != nil {
		return 0, err
	}
	s.say("settled after %.1fs: every session established, every real in service, every LUN at home", time.Since(begun).Seconds())
	if err := s.measureMemory(); err != nil {
		return 0, err
	}
	if err := s.prove(ctx); err != nil {
		return 0, err
	}
	if s.load, err = s.startLoad(ctx); err != nil {
		return 0, err
	}
	done, err = s.playAll(ctx, list)
	if stop := s.load.stop(); stop != nil && ctx.Err() == nil {
		err = errors.Join(err, stop)
	}
	if ctx.Err() == nil && !errors.Is(err, errRuins) && done > 0 {
		err = errors.Join(err, s.readBack(ctx, &s.result.Windows[len(s.result.Windows)-1], time.Time{}))
	}
	s.tellMail()
	return done, err
}

func (s *stage) playAll(ctx context.Context, list []scenario.Scenario) (done int, err error) {
	if err := s.calm(ctx, "", 3*time.Second); err != nil {
		return 0, fmt.Errorf("before any fault: %w", err)
	}
	s.result.Resolver = s.load.seen.resolver()
	s.say("client: %s; names are asked through %s", loadText, s.result.Resolver)
	for _, each := range list {
		if each.Topology != s.result.Topology {
			break
		}
		done++
		if err := s.scenario(ctx, each); err != nil {
			return done, err
		}
	}
	return done, nil
}

// waits tells what the lab waits for.
func (s *stage) waits(what string) { s.say("  %s", what) }

// prove finds everything answering, and mail sent from outside read back.
func (s *stage) prove(ctx context.Context) error {
	if _, err := s.output(ctx, "client", nil, "lab", "client", "ready"); err != nil {
		return err
	}
	s.say("answering: the shared VIPs, each site's own, and the names from all selectors")
	out, err := s.output(ctx, "client", nil, "lab", "client", "round-trip")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		s.say("%s", strings.TrimSpace(line))
	}
	return nil
}

func (s *stage) measureMemory() error {
	st, err := s.lab.Status()
	if err != nil {
		return err
	}
	if err := st.MeasureMemory(); err != nil {
		return err
	}
	s.result.Memory = st.Memory
	s.say("%d nodes up in %.1fs, %d MB of memory", len(st.Nodes), s.result.Up.Seconds(), st.Memory>>20)
	return nil
}

// keepLogs copies the nodes' logs beside the client's before the lab's own folder goes.
func (s *stage) keepLogs() error {
	var errs []error
	for _, n := range s.lab.Topology.Nodes {
		text, err := os.ReadFile(s.lab.LogPath(n.Name))
		if err == nil {
			err = os.WriteFile(filepath.Join(s.logs, n.Name+".log"), text, 0o644)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keep the nodes' logs: %w", err)
	}
	return nil
}

// output runs a command of the binary in a node and gives what it printed.
func (s *stage) output(ctx context.Context, node string, stdin io.Reader, args ...string) ([]byte, error) {
	c := s.lab.Command(ctx, node, slices.Concat([]string{"anycastle"}, args)...)
	var errs bytes.Buffer
	c.Stdin, c.Stderr = stdin, &errs
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: anycastle %s: %w: %s", node, strings.Join(args, " "), errors.Join(ctx.Err(), err), bytes.TrimSpace(errs.Bytes()))
	}
	return out, nil
}
