package gss

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/message"
	"anycastle/internal/config"
)

const (
	logRoom  = 1024        // queries that wait to be written; those beyond are counted, not waited for
	logFlush = time.Second // what was written is in the file after that
	logUsual = 512         // octets of a reply that there is room for at first
	logKept  = 4096        // and at most while the entry is not used
)

// QueryLog is a file with a line of JSON for each query, or for some; it is opened anew by each reload, so that it can be moved away.
type QueryLog struct {
	File  string `yaml:"file"`
	Every int    `yaml:"every"` // each so many-th query; default 1: all
}

// SetDefaults implements config.Defaulter.
func (q *QueryLog) SetDefaults() { *q = QueryLog{Every: 1} }

// Remark says why there will be no log, if that can be told beforehand; empty: there will be, or none is wanted. Queries are
// answered without one too, so that is no fault of the config.
func (q *QueryLog) Remark() string {
	if q == nil {
		return ""
	}
	dir := filepath.Dir(q.File)
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return ""
	}
	return fmt.Sprintf("gss.query_log.file: there is no directory %s; make it, or correct the name; there is no log without", dir)
}

func (q *QueryLog) validate(at config.Cursor) {
	if q.File == "" {
		at.Key("file").Errorf("missing; give a file such as /var/log/anycastle/queries.log")
	}
	if q.Every < 1 {
		at.Key("every").Errorf("%d is no number of queries; 1 logs all", q.Every)
	}
}

// LogLine is a query as it stands in the log.
type LogLine struct {
	At         time.Time      `json:"at"`
	From       netip.AddrPort `json:"from"`
	Via        string         `json:"via"` // udp, tcp or tls
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Client     string         `json:"client,omitempty"` // the network that the resolver names (RFC 7871)
	RCode      string         `json:"rcode"`
	Truncated  bool           `json:"truncated,omitempty"`
	Answers    []string       `json:"answers,omitempty"` // data of the records of the type
	Rule       string         `json:"rule,omitempty"`
	Basis      string         `json:"basis,omitempty"`
	Generation uint64         `json:"generation,omitempty"` // of the decision that a rule's answer follows
}

// queryLog takes queries from all who answer, and writes them in a goroutine of its own. Who answers does not wait.
type queryLog struct {
	log    *slog.Logger
	config *QueryLog
	count  atomic.Uint64
	lost   atomic.Uint64
	free   chan *logEntry
	full   chan *logEntry
	reopen chan struct{} // holds one
}

// logEntry is a reply on its way to the log.
type logEntry struct {
	at     time.Time
	from   netip.AddrPort
	via    message.Transport
	served *snapshot
	wire   []byte
}

func newQueryLog(cfg *QueryLog, log *slog.Logger) *queryLog {
	q := &queryLog{log: log, config: cfg, free: make(chan *logEntry, logRoom), full: make(chan *logEntry, logRoom), reopen: make(chan struct{}, 1)}
	for range logRoom {
		q.free <- &logEntry{wire: make([]byte, 0, logUsual)}
	}
	return q
}

// add logs a reply, if it is its turn. It allocates nothing but where the reply is larger than those before. A nil log takes nothing.
func (q *queryLog) add(at time.Time, from netip.AddrPort, via message.Transport, served *snapshot, reply []byte) {
	if q == nil || reply == nil || q.count.Add(1)%uint64(q.config.Every) != 0 {
		return
	}
	select {
	case e := <-q.free:
		e.at, e.from, e.via, e.served, e.wire = at, from, via, served, append(e.wire[:0], reply...)
		q.full <- e // has room for all that there are
	default:
		q.lost.Add(1)
	}
}

// nowhere stands for a file that cannot be opened.
type nowhere struct{ io.Writer }

// Close implements io.Closer.
func (nowhere) Close() error { return nil }

// run writes until ctx is done, and then what is left. Queries are answered without a log too.
func (q *queryLog) run(ctx context.Context) error {
	f, err := q.open()
	if err != nil {
		q.log.Warn("there is no query log until a reload", "err", err)
		f = nowhere{io.Discard}
	}
	w := bufio.NewWriter(f)
	tick := time.NewTicker(logFlush)
	defer tick.Stop()
	told := uint64(0)
	for {
		select {
		case e := <-q.full:
			q.write(w, e)
		case <-tick.C:
			if err := w.Flush(); err != nil {
				q.log.Warn("write the query log", "err", err)
				w.Reset(f) // or every later write would give the same error
			}
			if lost := q.lost.Load(); lost > told {
				q.log.Warn("queries are not in the query log, as they came faster than it can be written", "lost", lost-told)
				told = lost
			}
		case <-q.reopen:
			next, err := q.open()
			if err != nil {
				q.log.Warn("open the query log anew", "err", err)
				continue
			}
			err = errors.Join(w.Flush(), f.Close())
			if f = next; err != nil {
				q.log.Warn("close the query log", "err", err)
			}
			w.Reset(f)
		case <-ctx.Done():
			for len(q.full) > 0 {
				q.write(w, <-q.full)
			}
			return errors.Join(w.Flush(), f.Close())
		}
	}
}

func (q *queryLog) open() (io.WriteCloser, error) {
	f, err := os.OpenFile(q.config.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the query log: %w", err)
	}
	return f, nil
}

func (q *queryLog) write(w *bufio.Writer, e *logEntry) {
	if line, err := e.line(); err == nil {
		text, err := json.Marshal(line)
		if err == nil {
			_, _ = w.Write(append(text, '\n')) // Flush tells of errors
		}
	}
	e.served = nil
	if cap(e.wire) > logKept {
		e.wire = make([]byte, 0, logUsual)
	}
	q.free <- e
}

// line puts a reply into words.
func (e *logEntry) line() (LogLine, error) {
	var m dns.Msg
	if err := m.Unpack(e.wire); err != nil {
		return LogLine{}, err
	}
	l := LogLine{At: e.at.UTC(), From: e.from, Via: e.via.String(), RCode: rcodeName(m.Rcode), Truncated: m.Truncated}
	client := e.from.Addr().Unmap()
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if s, ok := o.(*dns.EDNS0_SUBNET); ok && s.SourceNetmask > 0 {
				if a, ok := netip.AddrFromSlice(s.Address); ok {
					client = a.Unmap()
					l.Client = netip.PrefixFrom(client, int(s.SourceNetmask)).String()
				}
			}
		}
	}
	if len(m.Question) == 0 {
		return l, nil
	}
	q := m.Question[0]
	l.Name, l.Type = bare(dns.CanonicalName(q.Name)), dns.Type(q.Qtype).String()
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Rrtype == q.Qtype {
			l.Answers = append(l.Answers, strings.TrimPrefix(rr.String(), h.String()))
		}
	}
	if rule, o, ok := e.served.ruleFor(q, client); ok {
		l.Rule, l.Basis, l.Generation = rule.Name, string(o.basis), e.served.generation
	}
	return l, nil
}

// ruleFor finds the rule that answers a question of a client, by way of aliases and wildcards, and with what; false if none does.
func (s *snapshot) ruleFor(q dns.Question, client netip.Addr) (rule *compiledRule, o outcome, ok bool) {
	z := s.zones.Find(dns.CanonicalName(q.Name), q.Qtype)
	if z == nil {
		return nil, outcome{}, false
	}
	class, _ := s.rules.classes.lookup(client)
	z.Lookup(q.Name, q.Qtype, func(name string, rrtype uint16) []dns.RR {
		if !ok {
			rule, o, ok = s.find(name, rrtype, class)
		}
		return nil // the zone is asked for the way only
	})
	return rule, o, ok
}
