package main

import (
	"fmt"
	"net/netip"

	"anycastle/internal/daemon"
	"anycastle/rhi/inject"

	"github.com/spf13/cobra"
)

const explainVIPLong = `Says where a VIP stands on the ladder and why: each gate and whether it holds, what each group of peers is
sent, how each session is and what was sent by it when, what is known of every other balancer, and what somebody
should look at. Without ADDRESS, of all VIPs.

With --if it says what would be decided at once if something were different. Nothing is done. Suppose
  reals=N    N reals in service
  balancer=NAME
             that one, as in show site, is not heard any more
  peers=0    no session with any peer
  hang       the balancer hangs
  unchecked  health cannot be checked
  drain, withdraw, announce, activate
             an operator has ordered it

It is answered by the balancer of this machine, of its own VIPs. The exit status is 0 whatever is said, 1 if there is
no answer.`

func newExplainVIP(e env) *cobra.Command {
	var output, runDir, supposed string
	cmd := &cobra.Command{
		Use:   "vip [ADDRESS]",
		Short: "Say why a VIP is announced as it is, or what would become of it if something failed",
		Long:  explainVIPLong,
		Example: `  anycastle explain vip 203.0.113.10
  anycastle explain vip 203.0.113.10 --if reals=0`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			q := inject.Question{If: supposed}
			if len(args) == 1 {
				var err error
				if q.VIP, err = vipPrefix(args[0]); err != nil {
					return err
				}
			}
			var rows []inject.Row
			if err := daemon.Post(cmd.Context(), runDir, "lb", "/v1/explain-vip", q, &rows); err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(e.stdout, rows)
			}
			return writeTable(e.stdout, []string{"VIP", "WHAT", "SAYS", "WHY"}, rows,
				one(func(r inject.Row) []string {
					vip := "-" // what is said holds for all of them
					if r.VIP.IsValid() {
						vip = r.VIP.Addr().String()
					}
					return []string{vip, r.What, r.Says, r.Detail}
				}))
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVar(&supposed, "if", "", "what to suppose to be different")
	return cmd
}

// vipPrefix reads the address of a VIP, or its prefix.
func vipPrefix(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil && p == p.Masked() {
		return p, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, usageError{fmt.Errorf("%q: want the address of a VIP, as in `show announcement`", text)}
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}
