package gss

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// axfr transfers a zone with the DNS library, and gives its records as sorted lines. A key of "" is none.
func axfr(addr, zone, key, algorithm, secret string) ([]string, error) {
	m := new(dns.Msg).SetAxfr(zone)
	tr := &dns.Transfer{DialTimeout: patience, ReadTimeout: patience}
	if key != "" {
		m.SetTsig(dns.Fqdn(key), algorithm+".", 300, time.Now().Unix())
		tr.TsigSecret = map[string]string{dns.Fqdn(key): secret}
	}
	envelopes, err := tr.In(m, addr)
	if err != nil {
		return nil, err
	}
	var lines []string
	for e := range envelopes {
		err = errors.Join(err, e.Error)
		for _, rr := range e.RR {
			lines = append(lines, strings.ToLower(strings.Join(strings.Fields(rr.String()), " ")))
		}
	}
	slices.Sort(lines)
	return lines, err
}
