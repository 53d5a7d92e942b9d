package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
)

const (
	// maxBody is how much of a body is looked at.
	maxBody = 64 << 10
	// maxHTTP bounds what is read in one probe: the headers as well.
	maxHTTP = 2 * maxBody
	// maxInterim is how many replies of status 1xx may come before the final one.
	maxInterim = 5
)

// httpProbe is the probe of HTTP/1.1, with and without TLS. It follows no redirect: a redirect is a reply.
type httpProbe struct {
	config *Config
	tls    *tls.Config // nil: plain
}

func (p *httpProbe) probe(ctx context.Context, t Target, _ *Advice) error {
	conn, err := t.dial(ctx, "tcp")
	if err != nil {
		return err
	}
	defer conn.Close()
	if p.tls != nil {
		if conn, err = secured(conn, p.tls, p.config.Timeout); err != nil {
			return err
		}
	}
	method := or(p.config.Method, http.MethodGet)
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: anycastle-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		method, or(p.config.Path, "/"), or(p.config.Host, t.Addr.String()))
	if err != nil {
		return cause(err, p.config.Timeout)
	}
	return p.judge(&boundReader{r: conn, left: maxHTTP}, method)
}

// judge reads a reply and says what is wrong with it.
func (p *httpProbe) judge(in *boundReader, method string) error {
	res, err := readResponse(bufio.NewReader(in), method)
	if err != nil {
		if in.err != nil && !errors.Is(in.err, io.EOF) {
			err = in.err // the parser forgets it when it has half a line
		}
		return fmt.Errorf("reply: %w", cause(err, p.config.Timeout))
	}
	defer res.Body.Close()
	want := p.config.Status
	if len(want) == 0 {
		want = []int{http.StatusOK}
	}
	if !slices.Contains(want, res.StatusCode) {
		return fmt.Errorf("status %s, want %s", res.Status, oneOf(want))
	}
	if p.config.Body == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if bytes.Contains(body, []byte(p.config.Body)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("body: %w", cause(err, p.config.Timeout))
	}
	return fmt.Errorf("%q is not in the first %d bytes of the body", p.config.Body, len(body))
}

// readResponse reads a final reply.
func readResponse(in *bufio.Reader, method string) (*http.Response, error) {
	for range maxInterim {
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, err
		}
		res.Body.Close()
	}
	return nil, fmt.Errorf("more than %d replies of status 1xx", maxInterim)
}

// oneOf writes a list of numbers as people say it.
func oneOf(list []int) string {
	if len(list) == 1 {
		return fmt.Sprint(list[0])
	}
	return fmt.Sprintf("one of %v", list)
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// hostOf gives a host without its port.
func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

// boundReader fails after so many bytes. It keeps the error that ended it.
type boundReader struct {
	r    io.Reader
	left int
	err  error
}

// Read implements io.Reader.
func (b *boundReader) Read(p []byte) (n int, err error) {
	if b.left <= 0 {
		b.err = fmt.Errorf("more than %d bytes", maxHTTP)
		return 0, b.err
	}
	n, b.err = b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, b.err
}
