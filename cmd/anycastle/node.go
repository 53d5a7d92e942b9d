package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"anycastle/bpf"
	"anycastle/internal/daemon"
	"anycastle/internal/netconf"

	"github.com/spf13/cobra"
)

func newNode(e env) *cobra.Command {
	f := &roleFlags{}
	cmd := &cobra.Command{
		Use:   "node [FILE]",
		Short: "Run everything that a node file has: its network, then each role as its own process",
		Long: `Sets up the interfaces, addresses and routes of the file's net section, mounts a bpf file system
on /sys/fs/bpf where a role needs one and none is there, then starts one process for each role
that the file has and starts it again when it ends. Meant for containers and labs; on a server,
let its service manager run each role by itself.

SIGTERM stops every role and waits for it: mail roles first, which take leave of their clients, then
what these come by. FILE is ` + defaultNodeFile + ` unless given.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.config = args[0]
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			node, err := loadNode(f.config)
			if err != nil {
				return usageError{err}
			}
			log := f.logger(e)
			if node.Net != nil {
				if err := netconf.Apply(ctx, *node.Net, log); err != nil {
					return fmt.Errorf("set up the network: %w", err)
				}
			}
			if node.LB != nil || node.Real != nil {
				if err := bpf.MountFS(bpf.FSPath); err != nil {
					return err
				}
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the binary: %w", err)
			}
			var children []daemon.Child
			for _, role := range node.roles() {
				argv := append([]string{binary}, role.command...)
				argv = append(argv, "--config", f.config, "--run-dir", f.runDir)
				child := daemon.Child{Name: role.name, Argv: argv, Output: e.stderr}
				if role.command[0] != "mail" {
					child.Stop = 1 // what clients reach the mail roles by stays until these have taken leave of them
				}
				children = append(children, child)
			}
			daemon.Supervise(ctx, log, children)
			<-ctx.Done() // a node with no role still holds its network
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
