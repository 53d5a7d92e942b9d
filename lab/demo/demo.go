package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"anycastle/lab/client"
	"anycastle/lab/runner"
	"anycastle/lab/topo"
)

// Options says where a demo runs and what it leaves.
type Options struct {
	Name   string    // the lab's name, so that two can run beside each other
	Root   string    // folder of the lab's state; empty: the runner's own
	Logs   string    // folder that keeps the client's log and those of the nodes; empty: a new one
	Report string    // folder for demo.json; empty: none
	Out    io.Writer // progress and the table
}

// topologyName is the lab that the demo knows its way about.
const topologyName = "two-site"

// demo is one run.
type demo struct {
	Options
	lab   *runner.Lab
	start time.Time
	seen  *collector
}

// ErrInterrupted says that ctx was done before the demo was, and that the lab has been removed.
var ErrInterrupted = errors.New("interrupted; the lab is gone")

// Run builds the lab, runs the faults, prints the table and removes the lab, also when ctx is done half-way.
func Run(ctx context.Context, o Options) error {
	logs, err := logFolder(o.Logs)
	if err != nil {
		return err
	}
	if o.Logs == "" {
		defer os.Remove(logs) // which it refuses when anything is in it
	}
	o.Logs = logs
	if o.Report != "" { // before the faults: nobody wants to hear of it after them
		if err := os.MkdirAll(o.Report, 0o755); err != nil {
			return fmt.Errorf("folder for the report: %w", err)
		}
	}
	d := &demo{Options: o, start: time.Now()}
	err, down := d.upAndDown(ctx)
	if _, gone := runner.Open(o.Name, o.Root); ctx.Err() != nil && errors.Is(gone, runner.ErrNoLab) {
		return errors.Join(ErrInterrupted, down)
	}
	return errors.Join(err, down)
}

// upAndDown gives what went wrong in the lab, and what in removing it.
func (d *demo) upAndDown(ctx context.Context) (err, down error) {
	if err := d.build(ctx); err != nil {
		return err, nil
	}
	err = d.run(ctx)
	d.say("removing the lab")
	// the lab goes whatever ended the demo, so its removal does not hang on ctx
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	down = errors.Join(d.keepLogs(), d.lab.Down(end, false))
	fmt.Fprintf(d.Out, "logs: %s\n", d.Logs)
	return err, down
}

func (d *demo) build(ctx context.Context) (err error) {
	tmp, err := os.MkdirTemp("", "anycastle-topology-")
	if err != nil {
		return fmt.Errorf("folder for the topology: %w", err)
	}
	defer os.RemoveAll(tmp) // the lab has its own copy
	file, err := topo.Find(topologyName, tmp)
	if err != nil {
		return err
	}
	d.say("building lab %s from namespaces", d.Name)
	d.lab, err = runner.Up(ctx, runner.Options{
		Topology: file, Name: d.Name, Root: d.Root, Prepare: topo.Prepare, DieWithParent: true,
		Progress: func(line string) { d.say("%s", line) },
	})
	return err
}

func logFolder(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "anycastle-demo-")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

func (d *demo) run(ctx context.Context) error {
	if err := d.settle(ctx); err != nil {
		return err
	}
	if err := d.roundTrip(ctx); err != nil {
		return err
	}
	windows, err := d.underLoad(ctx)
	if err != nil {
		return err
	}
	if err := clockStood(time.Now().Round(0).Sub(d.start.Round(0)), time.Since(d.start)); err != nil {
		return err
	}
	events := d.seen.all()
	result, err := rows(windows, events)
	if err != nil {
		return err
	}
	acknowledged, repeated := mails(events)
	if len(acknowledged) == 0 {
		return errors.New("not one mail was acknowledged under load, so none could be lost")
	}
	lost, doubled, err := d.readBack(ctx, events)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\n%s\n", table(result))
	fmt.Fprintf(d.Out, "mails acknowledged: %d, attempts that the client repeated: %d, lost: %d, doubled: %d\n",
		len(acknowledged), repeated, lost, doubled)
	n := failedBetween(windows, events)
	fmt.Fprintf(d.Out, "between the faults: %d new connections failed, %d by name, %d sessions broken\n",
		n[client.KindVIP], n[client.KindName], n[client.KindHeld])
	if err := d.writeReport(result); err != nil {
		return err
	}
	if lost > 0 {
		return fmt.Errorf("%d acknowledged mails are lost", lost)
	}
	return nil
}

// underLoad runs the client through all the faults and gives the window of each.
func (d *demo) underLoad(ctx context.Context) ([]window, error) {
	load, err := d.startLoad(ctx)
	if err != nil {
		return nil, err
	}
	d.say("client: a new connection every 10 ms, the DNS name 10 times a second, %d sessions held, 2 mails a second", held)
	windows, err := d.faults(ctx)
	return windows, errors.Join(err, load.stop())
}

func (d *demo) faults(ctx context.Context) ([]window, error) {
	if err := d.calm(ctx, 3*time.Second); err != nil {
		return nil, fmt.Errorf("before any fault: %w", err)
	}
	var windows []window
	for _, f := range d.plan() {
		d.say("fault: %s", f.name)
		w := window{fault: f.name, from: time.Now()}
		if err := f.apply(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if err := d.watch(ctx, w.from, f.watch); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		w.to = time.Now()
		if f.tookOver != nil {
			var err error
			if w.tookOver, err = f.tookOver(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", f.name, err)
			}
		}
		windows = append(windows, w)
		d.sayRow(w)
		if f.heal == nil {
			continue
		}
		d.say("mending: %s", f.name)
		if err := f.heal(ctx); err != nil {
			return nil, fmt.Errorf("mend %s: %w", f.name, err)
		}
		if err := d.settle(ctx); err != nil {
			return nil, fmt.Errorf("after %s: %w", f.name, err)
		}
		if err := d.calm(ctx, time.Second); err != nil {
			return nil, fmt.Errorf("after %s: %w", f.name, err)
		}
	}
	return windows, nil
}

// sayRow tells one fault's figures as soon as they are known.
func (d *demo) sayRow(w window) {
	r, err := rows([]window{w}, d.seen.all())
	if err != nil {
		d.say("  %v", err)
		return
	}
	d.say("  VIP outage %s, name outage %s, %d connections broken, took over: %s",
		ms(r[0].OutageVIPMS), ms(r[0].OutageNameMS), r[0].ConnectionsBroken, r[0].TookOver)
}

func (d *demo) writeReport(rows []Row) error {
	if d.Report == "" {
		return nil
	}
	text, err := json.MarshalIndent(rows, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(d.Report, "demo.json"), append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// keepLogs copies the nodes' logs beside the client's before the lab's own folder goes.
func (d *demo) keepLogs() error {
	var errs []error
	for _, n := range d.lab.Topology.Nodes {
		text, err := os.ReadFile(d.lab.LogPath(n.Name))
		if err == nil {
			err = os.WriteFile(filepath.Join(d.Logs, n.Name+".log"), text, 0o644)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("keep the nodes' logs: %w", err)
	}
	return nil
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.Out, "[%5.1fs] %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

// output runs a command of the binary in a node and gives what it printed.
func (d *demo) output(ctx context.Context, node string, stdin io.Reader, args ...string) ([]byte, error) {
	c := d.lab.Command(ctx, node, append([]string{"anycastle"}, args...)...)
	var errs bytes.Buffer
	c.Stdin, c.Stderr = stdin, &errs
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: anycastle %s: %w: %s", node, strings.Join(args, " "), errors.Join(ctx.Err(), err), bytes.TrimSpace(errs.Bytes()))
	}
	return out, nil
}
