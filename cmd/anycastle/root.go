package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

const rootLong = `anycastle keeps a company's mail reachable at one address while servers, load balancers,
links and whole data centres fail. One binary, one process per role:

  lb     balances TCP over the reals of a farm in XDP, and announces its VIPs by BGP
  real   runs on each real: takes off the balancer's outer header, holds the VIP
  rhi    announces routes by BGP on its own, or is a router
  gss    answers DNS: which site
  mail   smtp and imap front ends, and the store behind them

Every role reads its section of one node file. To see all of it work on this machine
(needs root, changes nothing outside its own namespaces):

  anycastle lab demo`

func newRoot(e env) *cobra.Command {
	root := &cobra.Command{
		Use:           "anycastle",
		Short:         "Mail at one address while servers, balancers, links and data centres fail",
		Long:          rootLong,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetVersionTemplate("anycastle {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; `%s --help` shows the flags", err, cmd.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "see", Title: "See:"},
		&cobra.Group{ID: "change", Title: "Change:"},
		&cobra.Group{ID: "lab", Title: "Try:"},
	)
	for _, c := range []*cobra.Command{
		newNode(e), newLB(e), newReal(e), newRHI(e), newGSS(e), newMail(e),
	} {
		c.GroupID = "run"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{newShow(e), newExplain(e), newCapture(e), newCheck(e), newSystemd(e)} {
		c.GroupID = "see"
		root.AddCommand(c)
	}
	for _, c := range append(newOrders(e), newRoll(e), newConfirm(e), newAdopt(e), newForget(e), newReload(e), newLUN(e)) {
		c.GroupID = "change"
		root.AddCommand(c)
	}
	lab := newLab(e)
	lab.GroupID = "lab"
	root.AddCommand(lab)
	strict(root)
	return root
}

// strict makes wrong arguments a usage error everywhere, and an unknown word after a command that only groups others
// too: cobra would show the help and call it a success.
func strict(cmd *cobra.Command) {
	want := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := want(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
		}
		return nil
	}
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	return v + " " + info.GoVersion
}
