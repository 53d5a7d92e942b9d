package main

import (
	"log/slog"

	"anycastle/internal/daemon"
	"anycastle/mailroles"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

func newWitness(e env) *cobra.Command {
	const long = `Votes in the groups of the LUNs whose replicas name it as their witness, and keeps their logs: which
operations there were, never mail. It belongs to a third place, so that whichever site is lost the other one and
the witness are a quorum. It needs little: a disk for 40 hours of operations, which it syncs, no address of a LUN and
no mailboxes file. Whoever has lost its disk starts it with an empty directory: it takes part again by itself.`
	return roleCommand(e, "witness", "witness", "Vote for LUNs and keep no mail", long,
		func(node *nodeFile, log *slog.Logger, reg *prometheus.Registry) (*running, error) {
			if node.Mail == nil || node.Mail.Witness == nil {
				return nil, nil
			}
			w, err := mailroles.NewWitness(*node.Mail, mailroles.Options{Log: log, Registry: reg})
			if err != nil {
				return nil, err
			}
			return &running{
				status:  map[string]func() any{"/v1/lun": w.LUN},
				healthy: w.Healthy, ready: w.Ready(), tasks: []daemon.Task{w.Run},
			}, nil
		})
}
