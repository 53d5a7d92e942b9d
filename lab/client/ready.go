package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// inRow is how many attempts must succeed one after another before the lab counts as ready: with two reals and two
// balancers behind a VIP, one success proves little.
const inRow = 20

// Ready waits until the SMTP VIP, that of each site, the IMAP VIP, every name server and the address that each names
// answer, inRow times in a row. When ctx is done first, the error says what did not answer last.
func Ready(ctx context.Context, cfg Config) error {
	var last error
	for good := 0; good < inRow; {
		if err := once(ctx, cfg); err != nil {
			if ctx.Err() != nil {
				return errors.Join(fmt.Errorf("not ready: %w", ctx.Err()), last)
			}
			last, good = err, 0
			wait(ctx, noopEvery)
			continue
		}
		good++
	}
	return nil
}

func once(ctx context.Context, cfg Config) error {
	for _, addr := range append([]string{cfg.VIP}, cfg.Sites...) {
		if _, err := greet(ctx, addr); err != nil {
			return fmt.Errorf("SMTP VIP %s: %w", addr, err)
		}
	}
	d := net.Dialer{Timeout: attemptTime, Deadline: time.Now().Add(attemptTime)}
	conn, err := d.DialContext(ctx, "tcp", cfg.IMAP)
	if err != nil {
		return fmt.Errorf("IMAP VIP: %w", err)
	}
	conn.Close()
	for _, server := range cfg.DNS {
		addr, err := ask(ctx, server, cfg.Name)
		if err != nil {
			return err
		}
		if _, err := greet(ctx, net.JoinHostPort(addr.String(), "25")); err != nil {
			return fmt.Errorf("%s as %s names it: %w", cfg.Name, server, err)
		}
	}
	return nil
}
