package mtasts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"
)

const (
	// fetchTime bounds one fetch (RFC 8461 section 3.3 suggests a minute).
	fetchTime = time.Minute
	// maxPolicy bounds a policy file, in bytes.
	maxPolicy = 64 << 10
)

// fetch gets a domain's policy by HTTPS (RFC 8461 section 3.3): its certificate must be valid for mta-sts.DOMAIN, the status
// 200 without a redirect, and the type text/plain.
func (c *Cache) fetch(ctx context.Context, domain string) (Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	host := "mta-sts." + domain
	client := http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return c.opt.Dial(ctx, host) },
			TLSClientConfig:        &tls.Config{RootCAs: c.opt.Roots, ServerName: host, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxPolicy,
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return Policy{}, fmt.Errorf("fetch MTA-STS policy: %w", err)
	}
	res, err := client.Do(req)
	if err != nil {
		return Policy{}, fmt.Errorf("fetch MTA-STS policy: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Policy{}, fmt.Errorf("fetch MTA-STS policy: %s answers %s", host, res.Status)
	}
	if kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return Policy{}, fmt.Errorf("fetch MTA-STS policy: it is of type %.40q, not text/plain", res.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxPolicy+1))
	if err != nil {
		return Policy{}, fmt.Errorf("fetch MTA-STS policy: %w", err)
	}
	if len(text) > maxPolicy {
		return Policy{}, errors.New("fetch MTA-STS policy: it is larger than 65536 bytes")
	}
	return ParsePolicy(string(text))
}
