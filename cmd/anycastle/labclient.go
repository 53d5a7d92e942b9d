package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"anycastle/lab/client"

	"github.com/spf13/cobra"
)

// newLabClient is the client that sees the lab from outside. Its defaults are the addresses of the two-site topology.
func newLabClient(e env) *cobra.Command {
	var cfg client.Config
	var ca string
	var boxes []string
	cmd := &cobra.Command{
		Use:   "client",
		Short: "The client outside: run it inside a lab's client node",
		Args:  cobra.NoArgs,
	}
	prepare := func() (err error) {
		if cfg.Every <= 0 {
			return usageError{fmt.Errorf("--every %v: want more than nothing", cfg.Every)}
		}
		if cfg.Mailboxes, err = accounts(boxes); err != nil {
			return usageError{err}
		}
		cfg.TLS, err = trust(ca, cfg.Name)
		return err
	}
	fl := cmd.PersistentFlags()
	fl.StringVar(&cfg.VIP, "vip", "203.0.113.25:25", "SMTP VIP")
	fl.StringSliceVar(&cfg.Sites, "site-vip", []string{"203.0.113.11:25", "203.0.113.21:25"}, "SMTP VIP of each site")
	fl.StringVar(&cfg.IMAP, "imap", "203.0.113.143:143", "IMAP VIP")
	fl.StringVar(&cfg.Name, "dns-name", "smtp.mail.example.org", "DNS name of the SMTP service")
	fl.StringSliceVar(&cfg.DNS, "dns-server", []string{"198.51.100.5:53", "198.51.100.133:53"}, "the name's servers")
	fl.StringVar(&ca, "ca", "/etc/anycastle/tls/ca.pem", "certificate of the lab's authority")
	fl.StringSliceVar(&boxes, "mailbox", []string{"alice@example.org:alice-lab", "bob@example.org:bob-lab"}, "mailbox and password, ADDRESS:PASSWORD")
	fl.DurationVar(&cfg.Every, "every", 10*time.Millisecond, "from one new VIP connection to the next")
	fl.DurationVar(&cfg.MailEvery, "mail-every", time.Second, "from one message to the next for the same mailbox; 0 sends none")
	fl.IntVar(&cfg.Held, "held", 40, "sessions held open")
	job := func(use, short string, run func(context.Context) error) {
		cmd.AddCommand(&cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			if err := prepare(); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return run(ctx)
		}})
	}
	job("load", "Connect, ask, hold and send until stopped; a line of JSON for each thing seen", func(ctx context.Context) error {
		return client.Load(ctx, cfg, client.NewLog(e.stdout))
	})
	job("ready", "Wait until both VIPs and the name answer from every server", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, clientTime)
		defer cancel()
		return client.Ready(ctx, cfg)
	})
	job("round-trip", "Send mail through the SMTP VIP, read it back through the IMAP VIP, compare", func(ctx context.Context) error {
		return roundTrip(ctx, e, cfg)
	})
	job("read-back", "Read acknowledged messages as JSON {id: address} and count the lost and the doubled", func(ctx context.Context) error {
		return readBack(ctx, e, cfg)
	})
	return cmd
}

// roundTrip sends a small and a large message to each mailbox.
func roundTrip(ctx context.Context, e env, cfg client.Config) error {
	for _, box := range cfg.Mailboxes {
		for _, size := range []int{4 << 10, 2 << 20} {
			start := time.Now()
			n, err := client.RoundTrip(ctx, cfg, box, size)
			if err != nil {
				return fmt.Errorf("%s: %w", box.Address, err)
			}
			fmt.Fprintf(e.stdout, "mail to %s: %d bytes sent through %s with STARTTLS, read back through %s byte for byte, %d ms\n",
				box.Address, n, cfg.VIP, cfg.IMAP, time.Since(start).Milliseconds())
		}
	}
	return nil
}

// readBack counts what of the acknowledged messages on standard input is lost or doubled.
func readBack(ctx context.Context, e env, cfg client.Config) error {
	var acknowledged map[string]string
	if err := json.NewDecoder(e.stdin).Decode(&acknowledged); err != nil {
		return fmt.Errorf("acknowledged messages on standard input: %w", err)
	}
	lost, doubled, err := client.ReadBack(ctx, cfg, acknowledged)
	if err != nil {
		return err
	}
	return json.NewEncoder(e.stdout).Encode(map[string]int{"lost": lost, "doubled": doubled})
}

func accounts(list []string) ([]client.Account, error) {
	var boxes []client.Account
	for _, s := range list {
		address, password, ok := strings.Cut(s, ":")
		if !ok {
			return nil, fmt.Errorf("--mailbox %s: want ADDRESS:PASSWORD", s)
		}
		boxes = append(boxes, client.Account{Address: address, Password: password})
	}
	return boxes, nil
}

// trust makes a TLS config that trusts one authority.
func trust(ca, name string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("authority of the lab: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New(ca + ": no certificate in it")
	}
	return &tls.Config{RootCAs: roots, ServerName: name}, nil
}
