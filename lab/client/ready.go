package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// inRow is how many attempts must succeed one after another before the lab counts as ready: with two reals and two
// balancers behind a VIP, one success proves little.
const inRow = 20

// Ready waits until all VIPs, that of each site too, every name server and the address that each names answer, inRow times
// in a row. When ctx is done first, the error says what did not answer last.
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
	for _, p := range cfg.Pods {
		if err := podOnce(ctx, cfg.Targets, p); err != nil {
			if p.Pod != "" {
				err = fmt.Errorf("pod %s: %w", p.Pod, err)
			}
			return err
		}
	}
	return nil
}

func podOnce(ctx context.Context, t Targets, p Pod) error {
	type vip struct {
		what   string
		addr   netip.AddrPort
		banner string
	}
	vips := []vip{{"SMTP", p.SMTP, bannerSMTP}, {"submission", p.Submission, bannerSMTP}, {"IMAP", p.IMAP, bannerIMAP}}
	for _, s := range p.Sites {
		vips = append(vips, vip{"site's SMTP", s, bannerSMTP})
	}
	for _, v := range vips {
		if !v.addr.IsValid() {
			continue
		}
		if _, err := greet(ctx, nil, v.addr, v.banner); err != nil {
			return fmt.Errorf("%s VIP %s: %w", v.what, v.addr, err)
		}
	}
	if p.Names.SMTP == "" {
		return nil
	}
	for _, server := range t.Selectors {
		addr, err := ask(ctx, server, p.Names.SMTP, dnsTime)
		if err != nil {
			return err
		}
		if _, err := greet(ctx, nil, netip.AddrPortFrom(addr, portOr(p.SMTP, 25)), bannerSMTP); err != nil {
			return fmt.Errorf("%s as %s names it: %w", p.Names.SMTP, server, err)
		}
	}
	return nil
}
