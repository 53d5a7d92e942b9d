package board

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/lab/scenario"
	"anycastle/lab/score"
)

const (
	// settleTime bounds the wait for sessions, routes, reals and LUNs to be as they were.
	settleTime = 90 * time.Second
	// drainTime is what an order to drain takes to be in force at all balancers of a site.
	drainTime = 1500 * time.Millisecond
	// quiet is how long the client must have seen no failure at the end of a watch.
	quiet = 2 * time.Second
)

// scenario goes through one scenario. An error means that the run cannot go on in this lab; what went wrong with the
// scenario itself stands in its rows.
func (s *stage) scenario(ctx context.Context, sc scenario.Scenario) error {
	for _, step := range sc.Before {
		if err := scenario.Do(ctx, s.lab, step); err != nil {
			return fmt.Errorf("%s: %w", sc.Name, err)
		}
	}
	s.say("fault: %s", sc.Title)
	fault := s.section(ctx, sc, sc.Fault, score.Window{Fault: sc.Title, Scenario: sc.Name, Pod: sc.Pod}, sc.Pod)
	s.say("way back: %s", sc.Title)
	back := s.section(ctx, sc, sc.Back, score.Window{Fault: sc.Title + ": way back", Scenario: sc.Name, Pod: sc.Pod, Back: true}, "")
	ruins := s.endCrowd()
	if ctx.Err() == nil {
		ruins = errors.Join(ruins, s.lab.Settle(ctx, settleTime, s.waits), s.calm(ctx, "", time.Second))
	}
	s.result.Windows = append(s.result.Windows, fault, back)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if ruins == nil {
		w := s.result.Windows
		ruins = s.readBack(ctx, &w[len(w)-2], back.From)
	}
	if ruins != nil {
		w := &s.result.Windows[len(s.result.Windows)-1]
		w.Flaws = append(w.Flaws, ruins.Error())
		return fmt.Errorf("%w after %s: %v", errRuins, sc.Title, ruins)
	}
	return nil
}

// section goes through the steps of a row, and gives its window.
func (s *stage) section(ctx context.Context, sc scenario.Scenario, sec scenario.Section, w score.Window, pod string) score.Window {
	w.Promise, w.Expect, w.From = sec.Promise, sec.Expect, time.Now()
	for _, step := range sec.Steps {
		if step.Verb != "watch" && step.Verb != "wait" && step.Verb != "took-over" {
			w.Marks = append(w.Marks, score.Mark{At: time.Now(), Text: step.String()})
		}
		var err error
		if step.Verb == "took-over" {
			w.TookOver, err = s.tookOver(ctx, step, w)
		} else {
			err = s.step(ctx, step, w.From, pod)
		}
		if err != nil {
			w.Flaws = append(w.Flaws, fmt.Sprintf("%s.txt:%d: %v", sc.Name, step.Line, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	end := time.Now()
	w.To = end.Round(0)
	if err := clockStood(w.To.Sub(w.From.Round(0)), end.Sub(w.From)); err != nil {
		w.Flaws = append(w.Flaws, err.Error())
	}
	w.From = w.From.Round(0)
	s.sayRow(w)
	return w
}

// step carries out a statement that is not about what is measured.
func (s *stage) step(ctx context.Context, step scenario.Step, from time.Time, pod string) error {
	switch step.Verb {
	case "watch":
		if err := pause(ctx, time.Until(from.Add(step.Time))); err != nil {
			return err
		}
		return s.calm(ctx, pod, quiet)
	case "wait":
		return pause(ctx, step.Time)
	case "settle":
		return s.lab.Settle(ctx, settleTime, s.waits)
	case "roll":
		return s.roll(ctx, step)
	case "crowd":
		return s.gather(ctx, step)
	}
	return scenario.Do(ctx, s.lab, step)
}

// tookOver says who took over, as the step wants it told; empty: as the banners at the VIP tell it.
func (s *stage) tookOver(ctx context.Context, step scenario.Step, w score.Window) (string, error) {
	if step.Word == "names" {
		w.To = time.Now()
		return strings.Join(score.NamedServers(w, s.load.seen.all()), ", "), nil
	}
	return scenario.TookOver(ctx, s.lab, step)
}

// roll upgrades nodes one after another, as an operator would: a real is drained at its balancers first.
func (s *stage) roll(ctx context.Context, step scenario.Step) error {
	nodes, err := step.Nodes.Pick(s.lab.Topology)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		s.say("  upgrading %s", node)
		if err := s.upgrade(ctx, node); err != nil {
			return fmt.Errorf("upgrade %s: %w", node, err)
		}
	}
	return nil
}

func (s *stage) upgrade(ctx context.Context, node string) error {
	_, _, err := s.lab.Balancing(ctx, node)
	real := err == nil
	if real {
		if err := errors.Join(scenario.Order(ctx, s.lab, node, "drain"), pause(ctx, drainTime)); err != nil {
			return err
		}
	}
	if err := s.lab.Stop(ctx, node); err != nil {
		return err
	}
	if err := s.lab.Start(ctx, node); err != nil {
		return err
	}
	if real {
		if err := scenario.Order(ctx, s.lab, node, "activate"); err != nil {
			return err
		}
	}
	return s.lab.Settle(ctx, settleTime, s.waits)
}

// gather has so many more sessions held at an address, or ends them.
func (s *stage) gather(ctx context.Context, step scenario.Step) error {
	if step.Word == "0" {
		return s.endCrowd()
	}
	r, w := io.Pipe()
	s.crowd = s.lab.Command(ctx, "client", "anycastle", "lab", "client", "crowd", "--held", step.Word, step.Args[0])
	s.crowd.Stdout = w
	if err := s.crowd.Start(); err != nil {
		return err
	}
	held := make(chan error, 1)
	go func() {
		_, err := r.Read(make([]byte, 1)) // it says something once all are held
		held <- err
		io.Copy(io.Discard, r)
	}()
	select {
	case err := <-held:
		return err
	case <-time.After(settleTime):
		return fmt.Errorf("%s sessions at %s are not held after %v", step.Word, step.Args[0], settleTime)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stage) endCrowd() error {
	c := s.crowd
	if c == nil {
		return nil
	}
	s.crowd = nil
	err := c.Signal(unix.SIGTERM)
	if w, ok := c.Stdout.(io.Closer); ok {
		defer w.Close()
	}
	return errors.Join(err, c.Wait())
}

// sayRow tells one row's figures as soon as they are known.
func (s *stage) sayRow(w score.Window) {
	r := score.Rows(s.result.Topology, []score.Window{w}, s.load.seen.all())[0]
	verdict := "kept"
	if !r.Pass {
		verdict = "NOT KEPT: " + r.Why
	}
	s.say("  outage: VIP %d ms, name %d ms, delivery %d ms, submission %d ms; broken: %d, %d in IDLE; failed: %d; took over: %s; promise %s: %s",
		r.OutageVIPMS, r.OutageNameMS, r.OutageDeliveryMS, r.OutageSubmissionMS, r.ConnectionsBroken, r.IdleBroken, r.Failed, r.TookOver, r.Promise, verdict)
}

// clockStood wants the machine's clock to have gone as fast as time itself: all figures are differences of its readings.
func clockStood(wall, elapsed time.Duration) error {
	if off := (wall - elapsed).Abs(); off > 100*time.Millisecond {
		return fmt.Errorf("the clock was set by %v meanwhile; the figures are worth nothing, run it again", off.Round(time.Millisecond))
	}
	return nil
}

// pause waits, or gives the reason why ctx ended first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
