package screen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// testEvery is how often each list is tested.
	testEvery = 10 * time.Minute
	// answerKept is how long what all lists say of an address is taken to hold.
	answerKept = 5 * time.Minute
	// maxAnswers bounds the addresses whose answers are kept.
	maxAnswers = 50_000
)

var (
	loopback   = netip.MustParsePrefix("127.0.0.0/8")
	errorCodes = netip.MustParsePrefix("127.255.255.0/24") // "you may not ask", "you ask too much", "no such list"
	mustBeNot  = netip.MustParseAddr("127.0.0.1")          // no list may list it (RFC 5782 section 5)
)

// ListStatus is what is known of one block list.
type ListStatus struct {
	Zone   string `json:"zone"`
	Broken string `json:"broken,omitempty"` // why it is left out
	Asked  uint64 `json:"asked"`
	Listed uint64 `json:"listed"`
	Errors uint64 `json:"errors"`        // questions without a usable answer
	Err    string `json:"err,omitempty"` // the last of these
}

// asker is the part of net.Resolver that lists need.
type asker interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// lists asks all block lists.
type lists struct {
	cfg DNSBL
	dns asker
	log *slog.Logger

	mu    sync.Mutex
	state []ListStatus
	kept  map[netip.Addr]answer
}

// answer is what all lists said of an address.
type answer struct {
	listed []string // zones; empty while the threshold is not reached
	until  time.Time
}

func newLists(cfg DNSBL, dns asker, log *slog.Logger) *lists {
	l := &lists{cfg: cfg, dns: dns, log: log, kept: map[netip.Addr]answer{}}
	for _, list := range cfg.Lists {
		l.state = append(l.state, ListStatus{Zone: list.Zone})
	}
	return l
}

// ask gives the zones that list an address, when their weights reach the threshold.
func (l *lists) ask(ctx context.Context, client netip.Addr) []string {
	now := time.Now()
	l.mu.Lock()
	a, ok := l.kept[client]
	l.mu.Unlock()
	if ok && now.Before(a.until) {
		return a.listed
	}
	listed, errs := l.askAll(ctx, client)
	score := 0
	var zones []string
	for i, list := range l.cfg.Lists {
		if listed[i] {
			score += list.Weight
			if list.Weight > 0 {
				zones = append(zones, list.Zone)
			}
		}
	}
	if score < l.cfg.Threshold {
		zones = nil
	}
	if errs == 0 {
		l.keep(client, answer{listed: zones, until: now.Add(answerKept)})
	}
	return zones
}

func (l *lists) keep(client netip.Addr, a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) >= maxAnswers {
		clear(l.kept)
	}
	l.kept[client] = a
}

// askAll asks the lists that work, at the same time, and says which list the address and how many could not tell.
func (l *lists) askAll(ctx context.Context, client netip.Addr) (listed []bool, errs int) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	listed = make([]bool, len(l.cfg.Lists))
	failed := make([]error, len(l.cfg.Lists))
	var wg sync.WaitGroup
	for i := range l.cfg.Lists {
		if l.broken(i) {
			continue
		}
		wg.Go(func() { listed[i], failed[i] = l.askOne(ctx, i, client) })
	}
	wg.Wait()
	for i, err := range failed {
		if err != nil {
			errs++
		}
		l.note(i, listed[i], err)
	}
	return listed, errs
}

func (l *lists) broken(i int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state[i].Broken != ""
}

func (l *lists) note(i int, listed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := &l.state[i]
	if st.Broken != "" {
		return
	}
	st.Asked++
	if listed {
		st.Listed++
	}
	if err == nil {
		return
	}
	if st.Errors++; st.Err != err.Error() {
		l.log.Warn("block list gives no usable answer", "zone", st.Zone, "err", err)
	}
	st.Err = err.Error()
}

// askOne asks one list.
func (l *lists) askOne(ctx context.Context, i int, client netip.Addr) (bool, error) {
	list := l.cfg.Lists[i]
	answers, err := l.dns.LookupNetIP(ctx, "ip4", query(client, list.Zone))
	var dnsErr *net.DNSError
	if errors.As(err, &dnsErr) && dnsErr.IsNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return meaning(answers, list.Answers)
}

// meaning reads the answers of a list (RFC 5782 section 2.1). Those that are no list's make an error, whatever there is
// beside them.
func meaning(answers []netip.Addr, wanted []Range) (listed bool, err error) {
	for _, a := range answers {
		switch a = a.Unmap(); {
		case errorCodes.Contains(a):
			return false, fmt.Errorf("dnsbl: list answers with the error code %s", a)
		case !loopback.Contains(a) || a == mustBeNot:
			return false, fmt.Errorf("dnsbl: %s is no answer of a list", a)
		case len(wanted) == 0:
			listed = true
		}
		for _, r := range wanted {
			listed = listed || r.contains(a)
		}
	}
	return listed, nil
}

// query gives the name under which a list is asked for an address (RFC 5782 sections 2.1 and 2.4). It is complete, so that no
// search domain is tried.
func query(client netip.Addr, zone string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	raw := client.AsSlice()
	for i := len(raw) - 1; i >= 0; i-- {
		if client.Is4() {
			fmt.Fprintf(&b, "%d.", raw[i])
		} else {
			b.Write([]byte{digits[raw[i]&15], '.', digits[raw[i]>>4], '.'})
		}
	}
	return b.String() + strings.TrimSuffix(zone, ".") + "."
}

// watch tests the lists until ctx ends.
func (l *lists) watch(ctx context.Context) error {
	tick := time.NewTicker(testEvery)
	defer tick.Stop()
	for {
		l.test(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// test leaves out the lists that list everybody, and takes back those that no longer do. A test without an answer changes
// nothing.
func (l *lists) test(ctx context.Context) {
	for i, list := range l.cfg.Lists {
		once, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
		answers, err := l.dns.LookupNetIP(once, "ip4", query(mustBeNot, list.Zone))
		cancel()
		var dnsErr *net.DNSError
		switch {
		case err == nil && errorCodes.Contains(answers[0].Unmap()):
			l.setBroken(i, fmt.Sprintf("it answers a test with the error code %s", answers[0].Unmap()))
		case err == nil:
			l.setBroken(i, fmt.Sprintf("it lists 127.0.0.1 (as %v), so it lists everybody", answers[0].Unmap()))
		case errors.As(err, &dnsErr) && dnsErr.IsNotFound:
			l.setBroken(i, "")
		}
	}
}

func (l *lists) setBroken(i int, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if st := &l.state[i]; st.Broken != why {
		st.Broken = why
		clear(l.kept)
		if why != "" {
			l.log.Error("block list is left out", "zone", st.Zone, "why", why)
		} else {
			l.log.Info("block list is asked again", "zone", st.Zone)
		}
	}
}

func (l *lists) status() []ListStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]ListStatus{}, l.state...)
}
