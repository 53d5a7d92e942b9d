package queue

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"context"

	"anycastle/mailroles/queue/mx"
	"anycastle/mailroles/queue/remote"
)

// Words by which the test binary knows that it is a queue's process.
const (
	childDir = "ANYCASTLE_TEST_QUEUE"
	childDNS = "ANYCASTLE_TEST_QUEUE_DNS"
	childMX  = "ANYCASTLE_TEST_QUEUE_MX"
)

// TestChild is the process that TestKill kills; alone it does nothing.
func TestChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		return
	}
	opt := Options{
		Dir: dir, Hostname: "mail.home.example", Home: nobody{}, Log: slog.New(slog.DiscardHandler), Policies: noPolicies{},
		Resolver: &mx.Resolver{Servers: []netip.AddrPort{netip.MustParseAddrPort(os.Getenv(childDNS))}},
		Own:      func() ([]netip.Addr, error) { return nil, nil }, Times: remote.DefaultTimes(),
		Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", os.Getenv(childMX))
		},
	}
	opt.Config.SetDefaults()
	q, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	var senders sync.WaitGroup
	defer senders.Wait()
	senders.Go(func() { _ = q.Run(t.Context()) })
	for n := range 4 {
		senders.Go(func() {
			for i := 0; ; i++ {
				address := fmt.Sprintf("u%d-%d-%d@a.example", os.Getpid(), n, i)
				mustPut(t, q, message{from: alice, to: to(address)})
				fmt.Printf("taken %s\n", address) // one write, so whole or not at all
			}
		})
	}
}

// nobody has no mailboxes.
type nobody struct{}

func (nobody) Deliver(context.Context, string, string, int64, func() (io.ReadCloser, error)) error {
	return ErrElsewhere
}

// A process that takes and sends is killed again and again: what it said that it took arrives.
func TestKill(t *testing.T) {
	w := newWorld(t, "a.example. A 192.0.2.1")
	h := w.serve("192.0.2.1:25", nil)
	taken := map[string]bool{}
	for range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
		cmd.Env = append(os.Environ(), childDir+"="+w.dir, childDNS+"="+w.dns.String(), childMX+"="+w.hosts[netip.MustParseAddrPort("192.0.2.1:25")])
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		first := true
		for lines.Scan() {
			if address, ok := strings.CutPrefix(lines.Text(), "taken "); ok {
				taken[address] = true
			}
			if first {
				first = false
				time.AfterFunc(time.Duration(20+rand.IntN(80))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		if err := cmd.Wait(); first || err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the process was not killed at work: %v", err)
		}
	}
	q, _ := w.run()
	left, aside := q.Summary().Entries, q.Summary().SetAside
	empty(t, q)
	count := map[string]int{}
	for _, l := range h.got() {
		count[l.to]++
		if l.text != "Received: from x by y; now\r\n"+hello {
			t.Errorf("%s got %q", l.to, l.text)
		}
	}
	twice := 0
	for address, n := range count {
		if n > 1 {
			twice++
		}
		delete(taken, address)
	}
	if len(taken) > 0 {
		t.Errorf("%d messages were taken and lost: %v", len(taken), taken)
	}
	if len(count) < 20 {
		t.Errorf("only %d messages", len(count))
	}
	t.Logf("%d messages arrived, %d of them more than once; %d were left and %d files set aside after the last kill", len(count), twice, left, aside)
}
