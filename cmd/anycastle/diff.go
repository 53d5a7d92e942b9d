package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"anycastle/internal/daemon"
	"anycastle/lb"

	"github.com/spf13/cobra"
)

const diffLong = `

With --diff and one FILE it says what a reload of lb with that file would move, and changes nothing: for each
farm the slots whose new flows would go to another real, and those that would pass through a transition; the
reals and VIPs that come, go or change; and the live flows that would break, at once or when a transition
ends, as far as agents and the balancer know them (see show flow). The running balancer works it out by what
a reload does. Probes that have no result yet are taken to pass.
With two FILEs, the old one and the new one, it needs no balancer, takes all reals as active, and knows no flows.
Exit status 1 when a reload would refuse the file, break flows at once, or withdraw the address of a VIP.`

// diffFlags are those of check that compare.
type diffFlags struct {
	diff           bool
	output, runDir string
	flows          int
}

func addDiff(cmd *cobra.Command) *diffFlags {
	f := &diffFlags{}
	cmd.Flags().BoolVar(&f.diff, "diff", false, "say what a reload of lb with FILE would move, or what moves from one FILE to another")
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "of --diff: table or json")
	cmd.Flags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "of --diff: folder of the status sockets")
	cmd.Flags().IntVar(&f.flows, "flows", lb.DefaultMoves, "of --diff: list no more than so many of the flows that would move")
	cmd.Long += diffLong
	cmd.Example += "\n  anycastle check --diff node.new.yml\n  anycastle check --diff node.yml node.new.yml"
	return f
}

func (f *diffFlags) run(cmd *cobra.Command, e env, files []string) error {
	if err := checkOutput(f.output); err != nil {
		return err
	}
	if len(files) > 2 {
		return usageError{fmt.Errorf("--diff takes the new file, or the old one and the new one, and not %d", len(files))}
	}
	if f.flows < 0 || f.flows > lb.MaxFlows {
		return usageError{fmt.Errorf("--flows %d: want 0 to %d", f.flows, lb.MaxFlows)}
	}
	var errs []error
	var cfgs []*lb.Config
	for _, file := range files {
		node, err := loadNode(file)
		if err == nil && node.LB == nil {
			err = fmt.Errorf("%s has no section for lb, whose moves --diff tells", file)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		cfgs = append(cfgs, node.LB)
	}
	if err := errors.Join(errs...); err != nil {
		return usageError{err}
	}
	d, err := f.compare(cmd.Context(), files, cfgs)
	if err != nil {
		return err
	}
	if f.output == "json" {
		err = writeJSON(e.stdout, d)
	} else {
		err = writeDiff(e.stdout, d)
	}
	if err == nil && d.Harms() {
		return exitCode(exitFailed)
	}
	return err
}

// compare asks the running balancer, which gets the file as it is and reads it itself, unless there are two files.
func (f *diffFlags) compare(ctx context.Context, files []string, cfgs []*lb.Config) (lb.Diff, error) {
	if len(files) == 2 {
		return lb.Compare(cfgs[0], cfgs[1]), nil
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return lb.Diff{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, lb.DiffTime+5*time.Second)
	defer cancel()
	body, err := daemon.Stream(ctx, f.runDir, "lb", "POST", "/v1/diff?"+lb.DiffQuery(files[0], f.flows).Encode(), text)
	if err != nil {
		return lb.Diff{}, err
	}
	defer body.Close()
	var d lb.Diff
	if err := json.NewDecoder(body).Decode(&d); err != nil {
		return lb.Diff{}, fmt.Errorf("read the answer of lb: %w", err)
	}
	return d, nil
}

func writeDiff(out io.Writer, d lb.Diff) error {
	if len(d.Farms)+len(d.VIPs) == 0 {
		fmt.Fprintln(out, "no farm and no VIP changes")
	}
	if err := writeFarmDiffs(out, d); err != nil {
		return err
	}
	if rows := changeRows(d); len(rows) > 0 {
		fmt.Fprintln(out)
		if err := writeTable(out, []string{"WHAT", "CHANGE", "SLOTS", "SLOTS THEN"}, rows, one(sameRow)); err != nil {
			return err
		}
	}
	if err := writeMotion(out, d.Flows); err != nil {
		return err
	}
	if d.Behind != "" {
		fmt.Fprintf(out, "note: %s\n", d.Behind)
	}
	if d.Refused != "" {
		fmt.Fprintf(out, "a reload would refuse it: %s; the above is what a restart with it would do\n", d.Refused)
	}
	return nil
}

func sameRow(row []string) []string { return row }

func writeFarmDiffs(out io.Writer, d lb.Diff) error {
	if len(d.Farms) == 0 {
		return nil
	}
	flows := map[string]lb.FlowCounts{}
	if d.Flows != nil {
		for _, f := range d.Flows.Farms {
			flows[f.Farm] = f.FlowCounts
		}
	}
	head := []string{"FARM", "SLOTS MOVED", "AT ONCE", "IN TRANSITION", "COVERED BY", "AT REST IN", "FLOWS", "STAY", "LATER", "BREAK"}
	return writeTable(out, head, d.Farms, one(func(f lb.FarmDiff) []string {
		row := []string{f.Name, share(f.Moved, f.MovedShare), strconv.Itoa(f.MovedNow), share(f.Transition, f.TransitionShare), "-", in(f.Until)}
		if f.Transition > 0 {
			row[4] = f.Method
		}
		if d.Flows == nil {
			return append(row, "-", "-", "-", "-")
		}
		n := flows[f.Name]
		return append(row, strconv.Itoa(n.Known), strconv.Itoa(n.Stay), strconv.Itoa(n.Later), strconv.Itoa(n.Break))
	}))
}

func share(n int, share float64) string { return fmt.Sprintf("%d (%s)", n, percent(share)) }

func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

// changeRows gives a row for each farm, real and VIP that changes.
func changeRows(d lb.Diff) (rows [][]string) {
	for _, f := range d.Farms {
		if len(f.Changes) > 0 {
			rows = append(rows, []string{"farm " + f.Name, strings.Join(f.Changes, "; "), "-", "-"})
		}
		for _, r := range f.Reals {
			if len(r.Changes) > 0 {
				rows = append(rows, []string{fmt.Sprintf("real %s/%s %v", f.Name, r.Name, r.Address), strings.Join(r.Changes, "; "),
					strconv.Itoa(r.Slots), strconv.Itoa(r.After)})
			}
		}
	}
	for _, v := range d.VIPs {
		changes := v.Changes
		if v.Breaks > 0 {
			changes = append(changes[:len(changes):len(changes)], percent(v.Breaks)+" of its flows WOULD BREAK at once")
		}
		if v.Withheld != "" {
			changes = append(changes[:len(changes):len(changes)], "its address WOULD NOT BE ANNOUNCED: "+v.Withheld)
		}
		rows = append(rows, []string{fmt.Sprintf("vip %s %v %s/%v", v.Name, v.Address, v.Protocol, v.Port), strings.Join(changes, "; "), "-", "-"})
	}
	return rows
}

// writeMotion tells of live flows.
func writeMotion(out io.Writer, m *lb.FlowMotion) error {
	if m == nil {
		return nil
	}
	fmt.Fprintf(out, "\nlive flows: %d known, %d stay, %d stay until a transition ends, %d WOULD BREAK at once", m.Known, m.Stay, m.Later, m.Break)
	if m.Anyway > 0 {
		fmt.Fprintf(out, ", %d move without it as well", m.Anyway)
	}
	if m.Astray > 0 {
		fmt.Fprintf(out, ", %d are cut off from their real already", m.Astray)
	}
	fmt.Fprintln(out)
	if len(m.List) > 0 {
		head := []string{"CLIENT", "VIP", "NAME", "REAL", "TO", "IN", "WHY"}
		err := writeTable(out, head, m.List, one(func(f lb.FlowMove) []string {
			when := "at once"
			if !f.Now {
				when = in(f.At)
			}
			return []string{f.Client.String(), f.VIP.String(), f.Name, f.Farm + "/" + f.Real, dash(f.To), when, f.Why}
		}))
		if err != nil {
			return err
		}
	}
	if m.More > 0 {
		fmt.Fprintf(out, "and %d more that would move; --flows lists more of them\n", m.More)
	}
	return writeUnknown(out, m.Unknown)
}
