package main

import (
	"fmt"
	"io"
	"strings"

	"anycastle/internal/daemon"
	"anycastle/lb"

	"github.com/spf13/cobra"
)

const explainLong = `Runs the balancer's loaded program on a packet that CLIENT would send to VIP, against the tables that are
installed now, and says what becomes of it: which VIP and slot it has, which real gets it and why, how it
leaves, or why it does not and what mends that. Nothing is sent, counted or stored.

CLIENT and VIP are ADDRESS:PORT, or for icmp-echo addresses alone. An IPv6 address with a port stands in
brackets. A packet of tcp is an ACK of an established flow unless --syn makes it the first of a new one; the
two differ while the slot is in transition: new flows go to its primary, established ones stay where they are.

The verdict is one of
  forwarded  to the real that is named
  answered   by the balancer itself: a ping, or a packet too big for the way to the real (see --size)
  passed     to the kernel of the balancer's machine: it is for no VIP
  dropped    for the reason that is named, which show drops counts

The exit status is 0 whatever the verdict, 1 if there is no answer, 2 if there can be no such packet.`

type explainFlags struct {
	output, runDir string
	q              lb.Question
}

func newExplain(e env) *cobra.Command {
	f := &explainFlags{}
	cmd := &cobra.Command{
		Use:   "explain CLIENT VIP",
		Short: "Say what becomes of a packet or of mail, why a VIP is announced or not, and why a name is answered so",
		Long:  explainLong,
		Example: `  anycastle explain 198.51.100.7:4242 203.0.113.10:25
  anycastle explain --syn '[2001:db8::1]:4242' '[2001:db8:0:25::10]:25'
  anycastle explain --size 1500 198.51.100.7:4242 203.0.113.10:25
  anycastle explain --protocol icmp-echo 198.51.100.7 203.0.113.10`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, e, args) },
	}
	cmd.AddCommand(newExplainVIP(e), newExplainName(e), newExplainMail(e), newExplainLUN(e), newExplainFirewall(e))
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVar(&f.q.Protocol, "protocol", "tcp", "tcp, udp or "+lb.EchoRequest)
	cmd.Flags().BoolVar(&f.q.SYN, "syn", false, "the packet opens a tcp connection")
	cmd.Flags().IntVar(&f.q.Size, "size", 0, "bytes of the IP packet; headers alone unless given")
	cmd.Flags().StringVar(&f.q.Uplink, "uplink", "", "the interface that it comes in by; the first of lb.uplinks unless given")
	return cmd
}

func (f *explainFlags) run(cmd *cobra.Command, e env, args []string) error {
	if err := checkOutput(f.output); err != nil {
		return err
	}
	var err error
	if f.q.From, err = lb.ParseEnd(args[0]); err != nil {
		return usageError{err}
	}
	if f.q.To, err = lb.ParseEnd(args[1]); err != nil {
		return usageError{err}
	}
	if _, err := f.q.Complete(); err != nil {
		return usageError{err}
	}
	var a lb.Answer
	if err := daemon.Post(cmd.Context(), f.runDir, "lb", "/v1/explain", f.q, &a); err != nil {
		return err
	}
	if f.output == "json" {
		return writeJSON(e.stdout, a)
	}
	return writeAnswer(e.stdout, a)
}

// writeAnswer lays an answer out for a person: a line for each step that the packet takes.
func writeAnswer(out io.Writer, a lb.Answer) error {
	rows := [][]string{{"packet", fmt.Sprintf("%v, in by %s", a.Question, a.Question.Uplink)}}
	rows = append(rows, vipRows(a)...)
	rows = append(rows, slotRows(a.Slot)...)
	rows = append(rows, sentRows(a)...)
	verdict := string(a.Fate)
	if a.Reason != "" {
		verdict += " (" + a.Reason + ")"
	}
	rows = append(rows, []string{"verdict", verdict + ": " + a.Why})
	if a.Mend != "" {
		rows = append(rows, []string{"mend", a.Mend})
	}
	if a.Behind != "" {
		rows = append(rows, []string{"note", a.Behind})
	}
	return writeTable(out, []string{"STEP", "WHAT"}, rows, one(func(row []string) []string { return row }))
}

func vipRows(a lb.Answer) [][]string {
	switch {
	case a.VIP != nil:
		return [][]string{{"vip", fmt.Sprintf("%s, farm %s", vipTitle(*a.VIP), a.VIP.Farm)}}
	case len(a.OnAddress) == 0:
		return [][]string{{"vip", "none has this address"}}
	}
	service := "in service"
	if !a.OnAddress[0].InService {
		service = "out of service"
	}
	var names []string
	for _, v := range a.OnAddress {
		names = append(names, vipTitle(v))
	}
	if a.Question.Protocol == lb.EchoRequest {
		return [][]string{{"vip", fmt.Sprintf("the address, %s, of %s", service, words(names))}}
	}
	return [][]string{{"vip", fmt.Sprintf("none; on this address, which is %s: %s", service, words(names))}}
}

func vipTitle(v lb.ToVIP) string {
	name := v.Name
	if name == "" {
		name = "one that is not in the config"
	}
	return fmt.Sprintf("%s (%s %v)", name, v.Protocol, v.Port)
}

func slotRows(s *lb.ToSlot) [][]string {
	if s == nil {
		return nil
	}
	slot := fmt.Sprintf("%d, steady", s.Number)
	switch {
	case s.InTransition:
		slot = fmt.Sprintf("%d, in transition by %s", s.Number, s.Method)
	case s.Followed:
		slot = fmt.Sprintf("%d, steady, but stored flows are followed", s.Number)
	}
	if s.Followed {
		stored := "not stored"
		if s.Stored != nil {
			stored = "stored with " + s.Stored.Title()
		}
		slot += "; the flow is " + stored
	}
	return [][]string{{"slot", slot}, {"primary", realText(s.Primary)}, {"secondary", realText(s.Secondary)}}
}

func realText(r *lb.ToReal) string {
	if r == nil {
		return "none"
	}
	text := fmt.Sprintf("%s %v, %s", r.Title(), r.Address, r.State)
	if !r.Since.IsZero() {
		text += " for " + ago(r.Since)
	}
	return text + ": " + r.Why
}

func sentRows(a lb.Answer) [][]string {
	s := a.Sent
	if s == nil {
		return nil
	}
	real := a.Real.Title()
	if a.Second != nil {
		real += fmt.Sprintf(", which passes it on to %s if the flow is not its own", a.Second.Title())
	}
	outer := string(s.Forward)
	if s.Source.IsValid() {
		outer += fmt.Sprintf(", %v to %v", s.Source, s.Destination)
	}
	if s.SecondHop.IsValid() {
		outer += fmt.Sprintf(", second hop %v", s.SecondHop)
	}
	hop := fmt.Sprintf("%s by %s", s.NextHop, s.Uplink)
	if len(s.VLANs) > 0 {
		hop += ", vlan " + strings.ReplaceAll(words(s.VLANs), ", ", " in ")
	}
	return [][]string{{"real", real}, {"outer", fmt.Sprintf("%s, %d bytes", outer, s.Size)},
		{"next hop", fmt.Sprintf("%s, mtu %d", hop, s.MTU)}}
}
