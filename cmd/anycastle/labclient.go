package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"anycastle/lab/client"

	"github.com/spf13/cobra"
)

const labClientLong = `Sees the lab as a stranger's mail server and mail reader do. What it aims at stands in a file of its node,
which lab/README.md shows; how much it does stands in its flags.`

// labClientFlags are those of every client command.
type labClientFlags struct {
	targets  string
	pods     []string
	patience time.Duration
	cfg      client.Config
}

// newLabClient is the client that sees the lab from outside.
func newLabClient(e env) *cobra.Command {
	f := &labClientFlags{}
	cmd := &cobra.Command{
		Use:   "client",
		Short: "The client outside: run it inside a lab's client node",
		Long:  labClientLong,
		Args:  cobra.NoArgs,
	}
	fl := cmd.PersistentFlags()
	fl.StringVar(&f.targets, "targets", client.DefaultTargets, "file that says what to aim at")
	fl.StringSliceVar(&f.pods, "pod", nil, "aim at these pods only")
	job := func(use, short string, run func(context.Context, client.Config) error) *cobra.Command {
		sub := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return run(ctx, cfg)
		}}
		cmd.AddCommand(sub)
		return sub
	}
	load := job("load", "Connect, ask, hold and send until stopped; a line of JSON for each thing seen", func(ctx context.Context, cfg client.Config) error {
		if cfg.Every <= 0 {
			return usageError{fmt.Errorf("--every %v: want more than nothing", cfg.Every)}
		}
		return client.Load(ctx, cfg, client.NewLog(e.stdout))
	})
	f.rates(load)
	job("ready", "Wait until all VIPs, and the names from every site selector, answer", func(ctx context.Context, cfg client.Config) error {
		ctx, cancel := context.WithTimeout(ctx, clientTime)
		defer cancel()
		return client.Ready(ctx, cfg)
	})
	job("round-trip", "Send mail through the SMTP VIP, read it back through the IMAP VIP, compare", func(ctx context.Context, cfg client.Config) error {
		return roundTrip(ctx, e, cfg)
	})
	back := job("read-back", "Read what load wrote, look for its messages, and list the lost and the doubled", func(ctx context.Context, cfg client.Config) error {
		return readBack(ctx, e, cfg, f.patience)
	})
	back.Flags().DurationVar(&f.patience, "patience", 10*time.Second, "how long to look for what is missing")
	cmd.AddCommand(newLabCrowd(e))
	return cmd
}

// newLabCrowd fills a VIP with sessions that do nothing.
func newLabCrowd(e env) *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use:     "crowd ADDRESS:PORT",
		Short:   "Hold many SMTP sessions open until stopped; a line of text when they are all there",
		Example: "  anycastle lab client crowd --held 350 203.0.113.11:25",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := netip.ParseAddrPort(args[0])
			if err != nil {
				return usageError{fmt.Errorf("%s: want ADDRESS:PORT", args[0])}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return client.Crowd(ctx, addr, n, func() { fmt.Fprintf(e.stdout, "%d held\n", n) })
		},
	}
	cmd.Flags().IntVar(&n, "held", 100, "sessions")
	return cmd
}

// rates are the flags that say how much the load is.
func (f *labClientFlags) rates(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.DurationVar(&f.cfg.Every, "every", 10*time.Millisecond, "from one new connection to the SMTP VIP to the next")
	fl.IntVar(&f.cfg.Held, "held", 40, "SMTP sessions held open for each pod")
	fl.IntVar(&f.cfg.Idle, "idle", 20, "IMAP sessions in IDLE for each pod")
	fl.DurationVar(&f.cfg.MailEvery, "mail-every", time.Second, "from one message to the next for the same mailbox; 0 sends none")
	fl.DurationVar(&f.cfg.SubmitEvery, "submit-every", 2*time.Second, "from one message to the next of the same user; 0 submits none")
}

// config puts together what the flags and the file say.
func (f *labClientFlags) config() (cfg client.Config, err error) {
	cfg = f.cfg
	if cfg.Targets, err = client.LoadTargets(f.targets); err != nil {
		return cfg, err
	}
	if err := cfg.Only(f.pods); err != nil {
		return cfg, usageError{fmt.Errorf("--pod: %w", err)}
	}
	cfg.TLS, err = client.Trust(cfg.CA)
	return cfg, err
}

// roundTrip sends a small and a large message to each mailbox.
func roundTrip(ctx context.Context, e env, cfg client.Config) error {
	for _, p := range cfg.Pods {
		for _, box := range p.Mailboxes {
			for _, size := range []int{4 << 10, 2 << 20} {
				start := time.Now()
				n, err := client.RoundTrip(ctx, cfg, p, box, size)
				if err != nil {
					return fmt.Errorf("%s: %w", box.Address, err)
				}
				fmt.Fprintf(e.stdout, "mail to %s: %d bytes sent through %s with STARTTLS, read back byte for byte, %d ms\n",
					box.Address, n, p.SMTP, time.Since(start).Milliseconds())
			}
		}
	}
	return nil
}

// readBack looks for the messages of the events on standard input.
func readBack(ctx context.Context, e env, cfg client.Config, patience time.Duration) error {
	events, err := client.ReadLog(e.stdin)
	if err != nil {
		return fmt.Errorf("events on standard input: %w", err)
	}
	result, err := client.ReadBack(ctx, cfg, client.Messages(events), patience)
	if err != nil {
		return err
	}
	return json.NewEncoder(e.stdout).Encode(result)
}
