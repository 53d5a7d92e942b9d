package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Result is what came of asking one target.
type Result struct {
	Target Target `json:"target"`
	Says   string `json:"says"` // one of the words below, or what else went wrong
}

// Words of a Result.
const (
	SaysOpen        = "open"
	SaysSilent      = "silent"
	SaysRefused     = "refused"
	SaysUnreachable = "unreachable" // a router on the way knows no route
	SaysOwn         = "own"         // the address is the node's that asks, and nothing is between
)

// Probe asks all targets at once, and waits for the answer to each up to the timeout.
func Probe(ctx context.Context, targets []Target, timeout time.Duration) []Result {
	results := make([]Result, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() { results[i] = Result{t, word(ask(ctx, t, timeout))} })
	}
	wg.Wait()
	return results
}

// errOwn is for a node that asks itself: nothing is between.
var errOwn = errors.New(SaysOwn)

func word(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return SaysOpen
	case errors.Is(err, unix.ECONNREFUSED):
		return SaysRefused
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return SaysUnreachable
	case errors.As(err, &timeout) && timeout.Timeout():
		return SaysSilent
	}
	return err.Error()
}

// question asks for the SOA of the root, which any name server answers somehow.
var question = []byte{0x4c, 0x42, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1}

func ask(ctx context.Context, t Target, timeout time.Duration) error {
	network := strings.Replace(t.Proto, "dns", "udp", 1)
	c, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, network, t.Addr.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if local, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil && local.Addr() == t.Addr.Addr() && !local.Addr().IsLoopback() {
		return errOwn
	}
	if t.Proto == "tcp" {
		return nil
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if _, err := c.Write(question); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 512))
	return err
}
