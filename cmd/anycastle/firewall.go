package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"

	"anycastle/internal/firewall"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
)

func newShowFirewall(e env, f *showFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "firewall",
		Short: "What a router has let pass, by rule, and what it has dropped, by zones",
		Long: `Asks the kernel, so it needs root. RULE is the number in net.firewall.allow, from 1. Counters begin
anew when the node starts. Zones between which nothing was dropped are left out of the table.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkOutput(f.output); err != nil {
				return err
			}
			s, err := firewall.Read()
			if err != nil {
				return err
			}
			if f.output == "json" {
				return writeJSON(e.stdout, s)
			}
			return writeFirewall(e.stdout, s)
		},
	}
}

func writeFirewall(out io.Writer, s *firewall.Status) error {
	err := writeTable(out, []string{"RULE", "PASSED", "ANSWERS", "LETS PASS"}, s.Rules, one(func(r firewall.RuleStatus) []string {
		return []string{strconv.Itoa(r.Number), packets(r.Passed), packets(r.Answers), r.Text}
	}))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nICMP errors that passed: %s\n\n", packets(s.Errors))
	some := slices.DeleteFunc(slices.Clone(s.Drops), func(d firewall.Drop) bool { return d.Dropped.Packets == 0 })
	if len(some) == 0 {
		_, err := fmt.Fprintln(out, "nothing was dropped")
		return err
	}
	return writeTable(out, []string{"FROM", "TO", "DROPPED"}, some, one(func(d firewall.Drop) []string {
		return []string{d.From, d.To, packets(d.Dropped)}
	}))
}

func packets(n firewall.Count) string { return fmt.Sprintf("%d (%d bytes)", n.Packets, n.Bytes) }

func newExplainFirewall(e env) *cobra.Command {
	f := &roleFlags{}
	cmd := &cobra.Command{
		Use:   "firewall SOURCE DESTINATION PROTO [PORT]",
		Short: "Which rule of this router's firewall takes a packet",
		Long: `Says by which zones a packet would come and go, by this router's own routes, and which rule of
net.firewall lets it pass. PROTO is tcp, udp, icmp, ipip or gue. The packet begins something: an
answer passes when what it answers does.`,
		Example: "  anycastle explain firewall 192.0.2.1 203.0.113.25 tcp 25",
		Args:    cobra.RangeArgs(3, 4),
		RunE: func(_ *cobra.Command, args []string) error {
			q, err := parseQuestion(args)
			if err != nil {
				return usageError{err}
			}
			node, err := loadNode(f.config)
			if err != nil {
				return usageError{err}
			}
			if node.Net == nil || node.Net.Firewall == nil {
				return firewall.ErrNone
			}
			return explainFirewall(e.stdout, *node.Net.Firewall, q)
		},
	}
	cmd.Flags().StringVarP(&f.config, "config", "c", defaultNodeFile, "node file")
	return cmd
}

func parseQuestion(args []string) (q firewall.Question, err error) {
	if q.Source, err = netip.ParseAddr(args[0]); err != nil {
		return q, fmt.Errorf("source: %w", err)
	}
	if q.Destination, err = netip.ParseAddr(args[1]); err != nil {
		return q, fmt.Errorf("destination: %w", err)
	}
	q.Proto = firewall.Proto(args[2])
	ported := q.Proto == firewall.TCP || q.Proto == firewall.UDP
	switch {
	case !slices.Contains([]firewall.Proto{firewall.TCP, firewall.UDP, firewall.ICMP, firewall.IPIP, firewall.GUE}, q.Proto):
		return q, fmt.Errorf("%q is no kind of packet; there are tcp, udp, icmp, ipip and gue", args[2])
	case ported != (len(args) == 4):
		return q, fmt.Errorf("tcp and udp need a PORT, and nothing else has one")
	case ported:
		port, err := strconv.ParseUint(args[3], 10, 16)
		if err != nil {
			return q, fmt.Errorf("port: %w", err)
		}
		q.Port = uint16(port)
	}
	return q, nil
}

func explainFirewall(out io.Writer, cfg firewall.Config, q firewall.Question) error {
	in, err := interfaceTo(q.Source)
	if err != nil {
		return err
	}
	by, err := interfaceTo(q.Destination)
	if err != nil {
		return err
	}
	q.From, q.To = cfg.Zone(in), cfg.Zone(by)
	fmt.Fprintf(out, "from %v: by %s, zone %s\nto %v: by %s, zone %s\n", q.Source, in, words([]string{q.From}), q.Destination, by, words([]string{q.To}))
	if n := cfg.Decide(q); n > 0 {
		_, err = fmt.Fprintf(out, "passes by rule %d: %v\n", n, cfg.Allow[n-1])
		return err
	}
	_, err = fmt.Fprintln(out, "dropped: no rule lets it pass")
	return err
}

// interfaceTo names the interface that this node reaches an address by. A packet from there comes in by it too, unless
// several routes are equally good.
func interfaceTo(a netip.Addr) (string, error) {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil {
		return "", fmt.Errorf("route to %v: %w", a, err)
	}
	if len(routes) == 0 {
		return "", fmt.Errorf("there is no route to %v", a)
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", fmt.Errorf("interface to %v: %w", a, err)
	}
	return link.Attrs().Name, nil
}
