package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"anycastle/internal/daemon"
	"anycastle/internal/mtls"
	"anycastle/mailroles"
	"anycastle/mailroles/monitor"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

func newMonitor(e env) *cobra.Command {
	const long = `Probes the targets of the node file (VIPs, reals, selectors, the service addresses of LUNs) and tells how
they are: show target, and /metrics for Prometheus on its socket and, where the file says listen, over mutual TLS.
A LUN is watched at its own address, so it keeps one name in monitoring whichever store is active. Every change is logged.
A reload (SIGHUP) takes other targets; those that stay keep their counts.`
	return roleCommand(e, "monitor", "monitor", "Watch VIPs, LUNs and servers, for people and for Prometheus", long,
		func(node *nodeFile, log *slog.Logger, reg *prometheus.Registry) (*running, error) {
			if node.Mail == nil || node.Mail.Monitor == nil {
				return nil, nil
			}
			opt := monitor.Options{Log: log, Registry: reg}
			if node.Mail.Monitor.Listen != nil {
				var err error
				if opt.TLS, err = mtls.Load(node.Mail.TLS, log); err != nil {
					return nil, err
				}
			}
			m, err := monitor.New(*node.Mail.Monitor, opt)
			if err != nil {
				return nil, err
			}
			return &running{
				status:  map[string]func() any{"/v1/target": func() any { return m.Targets() }},
				healthy: m.Healthy, ready: m.Ready(), reload: reloadMonitor(m, *node.Mail), tasks: []daemon.Task{m.Run},
			}, nil
		})
}

// reloadMonitor takes other targets. What other roles of the section say is theirs.
func reloadMonitor(m *monitor.Monitor, before mailroles.Config) func(context.Context, *nodeFile) error {
	return func(_ context.Context, node *nodeFile) error {
		switch {
		case node.Mail == nil || node.Mail.Monitor == nil:
			return errors.New("the file has no monitor section any more; stop the role instead")
		case before.Monitor.Listen != nil && node.Mail.TLS != before.TLS:
			return errors.New("mail.tls names other files; restart the role for that")
		}
		return m.Reload(*node.Mail.Monitor)
	}
}

func addTargetView(cmd *cobra.Command, e env, f *showFlags) {
	addView(cmd, e, f, view[monitor.TargetStatus]{
		noun: "target", short: "What the monitor watches: state, for how long, and why", roles: []string{"monitor"},
		head: []string{"TARGET", "ADDRESS", "PROBE", "STATE", "FOR", "CHANGES", "TOOK", "LABELS", "WHY"},
		rows: one(func(t monitor.TargetStatus) []string {
			var labels []string
			for _, name := range slices.Sorted(maps.Keys(t.Labels)) {
				labels = append(labels, name+"="+t.Labels[name])
			}
			return []string{
				t.Name, t.Address, t.Probe, t.State.String(), ago(t.Since), strconv.FormatUint(t.Changes, 10),
				fmt.Sprintf("%.1f ms", t.DurationMS), cmp.Or(strings.Join(labels, " "), "-"), cmp.Or(t.Why, "-"),
			}
		}),
	})
}
