package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
)

// units are service units for packagers, one for each mail role, the witness and the monitor.
//
//go:embed systemd/*.service
var units embed.FS

func newSystemd(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "systemd [UNIT]",
		Short: "Print a systemd unit for a mail role, the witness or the monitor, or list the units",
		Long: `Prints the service unit of a mail role, which runs it as the user anycastle, without any right that it does
not need: a front end may use ports below 1024; a store may change addresses (CAP_NET_ADMIN), for those of LUNs that have
replicas; a witness and a monitor may do neither. The binary is /usr/bin/anycastle, the node file
/etc/anycastle/node.yml, and what a store or a witness keeps below /var/lib/anycastle; what is elsewhere
goes into a drop-in. TimeoutStopSec must be more than drain_lead and drain_deadline together.

The user must be able to read the node file, the mailboxes file, and the certificate and its key; a witness needs no
mailboxes file.`,
		Example: "  anycastle systemd anycastle-imap.service >/etc/systemd/system/anycastle-imap.service",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			names, err := fs.Glob(units, "systemd/*")
			if err != nil {
				return err
			}
			if len(args) == 0 {
				for _, name := range names {
					fmt.Fprintln(e.stdout, strings.TrimPrefix(name, "systemd/"))
				}
				return nil
			}
			text, err := units.ReadFile("systemd/" + args[0])
			if errors.Is(err, fs.ErrNotExist) {
				return usageError{fmt.Errorf("no unit is called %q; `anycastle systemd` lists them", args[0])}
			}
			if err != nil {
				return err
			}
			fmt.Fprint(e.stdout, string(text))
			return nil
		},
	}
}
