package bfd

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/internal/netnstest"
)

// A speaker opens its sockets from several goroutines, so it gets a process of its own inside the namespace: the test binary
// runs itself again with this variable set.
const childEnv = "ANYCASTLE_BFD_TEST_NODE"

// soon is long enough for what happens at once on a machine that is not busy.
const soon = time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // they mostly wait, for daemons and detection times
		panic(err)
	}
	os.Exit(m.Run())
}

// request is a line of a child's stdin, and answer one of its stdout.
type request struct {
	Set      bool     `json:"set"`
	Sessions []Config `json:"sessions"`
}

type answer struct {
	Err     string             `json:"err"`
	Status  []Status           `json:"status"`
	Strays  map[string]uint64  `json:"strays"`
	Changes []Change           `json:"changes"`
	Metrics map[string]float64 `json:"metrics"`
	CPU     time.Duration      `json:"cpu"`
}

// child runs a speaker until stdin ends, as it does with the test: a child never outlives it.
func child() error {
	var mu sync.Mutex
	var changes []Change
	registry := prometheus.NewRegistry()
	s := New(Options{
		Registry: registry,
		Log:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Changed: func(c Change) {
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, c)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	out := json.NewEncoder(os.Stdout)
	for in := json.NewDecoder(os.Stdin); ; {
		var q request
		if in.Decode(&q) != nil {
			break
		}
		var a answer
		if q.Set {
			if err := s.SetSessions(q.Sessions); err != nil {
				a.Err = err.Error()
			}
		}
		a.Status, a.Strays, a.Metrics = s.Status(), s.Strays(), gather(registry)
		mu.Lock()
		a.Changes = changes
		mu.Unlock()
		var use syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
		a.CPU = time.Duration(use.Utime.Nano() + use.Stime.Nano())
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	cancel()
	return <-ended
}

// gather gives each series as NAME/LABEL/LABEL.
func gather(g prometheus.Gatherer) map[string]float64 {
	series := map[string]float64{}
	families, err := g.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			series[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return series
}

// node is a speaker in a namespace.
type node struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
	end func()
}

func startNode(t testing.TB, ns *netnstest.NS, name string) *node {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = &logWriter{t, name}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Do(cmd.Start) // a process begins in the namespace of the thread that starts it
	n := &node{t: t, cmd: cmd, in: json.NewEncoder(stdin), out: json.NewDecoder(stdout)}
	n.end = sync.OnceFunc(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	t.Cleanup(n.end)
	return n
}

func (n *node) ask(q request) answer {
	n.t.Helper()
	var a answer
	if err := n.in.Encode(q); err != nil {
		n.t.Fatal(err)
	}
	if err := n.out.Decode(&a); err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *node) set(sessions ...Config) {
	n.t.Helper()
	if a := n.ask(request{Set: true, Sessions: sessions}); a.Err != "" {
		n.t.Fatal(a.Err)
	}
}

func (n *node) status(peer string) Status {
	n.t.Helper()
	for _, st := range n.ask(request{}).Status {
		if st.Peer == peer {
			return st
		}
	}
	return Status{}
}

// changes gives those of one peer.
func (n *node) changes(peer string) (list []Change) {
	n.t.Helper()
	for _, c := range n.ask(request{}).Changes {
		if c.Peer == peer {
			list = append(list, c)
		}
	}
	return list
}

// await waits until something is true of a session.
func (n *node) await(peer, what string, ok func(Status) bool) Status {
	n.t.Helper()
	var st Status
	eventually(n.t, peer+": "+what, func() bool { st = n.status(peer); return ok(st) }, func() string { return fmt.Sprintf("%+v", st) })
	return st
}

func (n *node) awaitState(peer string, want State) Status {
	n.t.Helper()
	return n.await(peer, want.String(), func(st Status) bool { return st.Peer != "" && st.State == want })
}

func eventually(t testing.TB, what string, ok func() bool, last func() string) {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(start) > soon {
			t.Fatalf("not within %v: %s; last: %s", soon, what, last())
		}
		<-tick.C
	}
	t.Logf("%s: after %v", what, time.Since(start).Round(time.Millisecond))
}

// logWriter shows a child's log in the test's.
type logWriter struct {
	t    testing.TB
	name string
}

func (w *logWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s: %s", w.name, strings.TrimSpace(string(b)))
	return len(b), nil
}

// way is one kind of session between the two ends of a rig.
type way struct {
	name         string
	ours, theirs netip.Addr
	link         string
	multihop     bool
}

var ways = []way{
	{"ipv4", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), "eth1", false},
	{"ipv6", netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), "eth1", false},
	{"link-local", netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2"), "eth1", false},
	{"multihop ipv4", netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2"), "", true},
	{"multihop ipv6", netip.MustParseAddr("2001:db8:100::1"), netip.MustParseAddr("2001:db8:100::2"), "", true},
}

// config is the session of a way, slow enough for a busy machine.
func (w way) config() Config {
	return Config{
		Peer: w.name, Remote: w.theirs, Local: w.ours, Interface: w.link, Multihop: w.multihop,
		MinTTL:   64, // what BIRD sends over several hops
		Transmit: 200 * ms, Receive: 200 * ms, Multiplier: 10,
	}
}

func (w way) reversed() way {
	w.ours, w.theirs = w.theirs, w.ours
	return w
}
