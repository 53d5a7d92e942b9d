package board

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"anycastle/lab/report"
	"anycastle/lab/runner"
	"anycastle/lab/scenario"
	"anycastle/lab/score"
)

// Options says what is run, where, and what it leaves.
type Options struct {
	Title     string              // of the run, and of its rows' file: demo.json
	Scenarios []scenario.Scenario // those of one topology one after another
	Name      string              // the labs' name, so that two runs can be beside each other
	Root      string              // folder of the labs' state; empty: the runner's own
	Logs      string              // folder that keeps the client's log and those of the nodes; empty: one in Report
	Report    string              // folder for the report; empty: a new one
	Out       io.Writer           // progress and the table
}

// run is one run.
type run struct {
	Options
	start time.Time
	score.Run
}

// ErrInterrupted says that ctx was done before the run was, and that its lab has been removed.
var ErrInterrupted = errors.New("interrupted; the lab is gone")

// ErrBroken says that a promise was not kept.
var ErrBroken = errors.New("a promise was not kept")

// Run goes through the scenarios, prints the table, writes the report, and removes its labs, also when ctx is done
// half-way. The error wraps ErrBroken when all went well but a promise of the design.
func Run(ctx context.Context, o Options) error {
	now := time.Now()
	r := &run{Options: o, start: now, Run: score.Run{Name: o.Title, Began: now}}
	if err := r.makeFolders(); err != nil { // before the faults: nobody wants to hear of it after them
		return err
	}
	for left := o.Scenarios; len(left) > 0; {
		done, err := r.oneLab(ctx, left)
		if err != nil && ctx.Err() != nil {
			if _, gone := runner.Open(o.Name, o.Root); errors.Is(gone, runner.ErrNoLab) {
				return ErrInterrupted
			}
		}
		if err != nil {
			return err
		}
		left = left[done:]
	}
	r.Took = time.Since(now)
	return r.finish()
}

func (r *run) makeFolders() (err error) {
	if r.Report == "" {
		r.Report, err = os.MkdirTemp("", "anycastle-"+r.Title+"-")
	} else {
		err = os.MkdirAll(r.Report, 0o755)
	}
	if err != nil {
		return fmt.Errorf("folder for the report: %w", err)
	}
	if r.Logs == "" {
		r.Logs = filepath.Join(r.Report, "logs")
	}
	return nil
}

// finish prints the table and writes the report.
func (r *run) finish() error {
	rows := r.Rows()
	fmt.Fprintf(r.Out, "\n%s\n", report.Table(rows))
	if err := report.Write(r.Run, r.Report); err != nil {
		return err
	}
	fmt.Fprintf(r.Out, "report: %s\nlogs: %s\n", r.Report, r.Logs)
	broken := 0
	for _, row := range rows {
		if !row.Pass {
			broken++
			fmt.Fprintf(r.Out, "not kept: %s: %s\n", row.Fault, row.Why)
		}
	}
	if broken > 0 {
		return fmt.Errorf("%w: %d of %d rows", ErrBroken, broken, len(rows))
	}
	return nil
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.Out, "[%5.1fs] %s\n", time.Since(r.start).Seconds(), fmt.Sprintf(format, args...))
}
