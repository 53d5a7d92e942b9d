package rhi

import (
	"bufio"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/internal/config"
	"anycastle/internal/daemon"
	"anycastle/internal/netnstest"
	"anycastle/rhi/bfd"
)

// A speaker opens its sockets from many goroutines, so it gets a process of its own inside the namespace: the test
// binary runs itself again with this variable set.
const childEnv = "ANYCASTLE_RHI_TEST_NODE"

// A node whose strainEnv is set makes garbage besides, and a process with burnEnv does nothing but compute.
const (
	strainEnv = "ANYCASTLE_RHI_TEST_STRAIN"
	burnEnv   = "ANYCASTLE_RHI_TEST_BURN"
)

func TestMain(m *testing.M) {
	if os.Getenv(burnEnv) != "" {
		go func() {
			for sum := sha256.Sum256(nil); ; sum = sha256.Sum256(sum[:]) {
			}
		}()
		io.Copy(io.Discard, os.Stdin) // which ends with the test
		return
	}
	if file := os.Getenv(childEnv); file != "" {
		if err := child(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil { // they mostly wait, for sessions and hold times
		panic(err)
	}
	os.Exit(m.Run())
}

// child runs the role of the node file. Each line of stdin is a set for SetAnnouncements, such as
// "203.0.113.10/32 203.0.113.11/32@isp=1,core=2", or "bfd-down" or "bfd-up"; its outcome goes to stdout.
func child(file string) error {
	cfg, err := decode(file, nil)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	reg := prometheus.NewRegistry()
	var changes atomic.Int64
	role := New(*cfg, Options{Log: log, Registry: reg, Changed: func() { changes.Add(1) }})
	if os.Getenv(strainEnv) != "" {
		go strain()
	}
	go func() {
		defer os.Exit(1) // stdin ends with the test: a child never outlives it
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if order, ok := strings.CutPrefix(in.Text(), "bfd-"); ok {
				fmt.Println(holdBFD(role, order == "down"))
				continue
			}
			var set []Announcement
			cause := time.Now()
			for _, word := range strings.Fields(in.Text()) {
				a := parseAnnouncement(word)
				a.Why, a.Cause, a.Decided = "asked for", cause, time.Now()
				set = append(set, a)
			}
			fmt.Println(role.SetAnnouncements(context.Background(), set))
		}
	}()
	return daemon.Run(context.Background(), daemon.Process{
		Role: "rhi", RunDir: filepath.Dir(file), Log: log, Registry: reg,
		Status: map[string]func() any{
			"/v1/rhi": func() any { return role.Status() }, "/v1/bfd": func() any { return role.BFD() }, "/v1/sent": func() any { return role.Sent() },
			"/v1/watched": func() any { return role.Watched() }, "/v1/standing": func() any { return role.Standing() },
			"/v1/changes": func() any { return changes.Load() },
		},
	}, role.Run)
}

// holdBFD has all BFD sessions be AdminDown, or lets them come up again.
func holdBFD(r *Role, down bool) error {
	var list []bfd.Config
	for _, n := range r.cfg.Neighbors {
		c := n.bfdConfig()
		c.AdminDown = down
		list = append(list, c)
	}
	return r.detector.bfd.SetSessions(list)
}

// strain makes garbage, so that the collector runs a few times a second: each run stops all threads of the process for a moment,
// and they have to get their processors back.
func strain() {
	kept := make([][]byte, 1024)
	for range time.Tick(200 * time.Millisecond) {
		for i := range kept {
			kept[i] = make([]byte, 4*i)
		}
	}
}

func parseAnnouncement(word string) Announcement {
	prefix, rungs, _ := strings.Cut(word, "@")
	a := Announcement{Prefix: netip.MustParsePrefix(prefix), Rungs: map[string]int{}}
	for _, r := range strings.FieldsFunc(rungs, func(c rune) bool { return c == ',' }) {
		group, rung, _ := strings.Cut(r, "=")
		n, err := strconv.Atoi(rung)
		if err != nil {
			panic(err)
		}
		a.Rungs[group] = n
	}
	return a
}

// decode reads a node file, or text when it is not nil, and validates its rhi section.
func decode(name string, text []byte) (*Config, error) {
	var doc *config.Doc
	var err error
	if text == nil {
		doc, err = config.Load(name)
	} else {
		doc, err = config.Parse(name, text)
	}
	if err != nil {
		return nil, err
	}
	var cfg Config
	cfg.Validate(doc.Decode("rhi", &cfg))
	return &cfg, doc.Err()
}

// node is a speaker in a namespace of its own.
type node struct {
	t    testing.TB
	ns   *netnstest.NS
	dir  string
	name string
	cmd  *exec.Cmd
	in   *bufio.Writer
	out  *bufio.Reader
}

func newNode(t testing.TB, name string) *node {
	t.Helper()
	return &node{t: t, ns: netnstest.New(t), dir: t.TempDir(), name: name}
}

// start runs the speaker with the text of a node file.
func (n *node) start(text string) {
	n.t.Helper()
	file := filepath.Join(n.dir, "node.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+file)
	cmd.Stderr = &logWriter{n.t, n.name}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	n.ns.Do(cmd.Start) // a process begins in the namespace of the thread that starts it
	n.cmd, n.in, n.out = cmd, bufio.NewWriter(stdin), bufio.NewReader(stdout)
	n.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
}

// end sends the signal and waits for the process; only SIGTERM must end it cleanly.
func (n *node) end(sig syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(sig); err != nil {
		n.t.Fatal(err)
	}
	if err := n.cmd.Wait(); err != nil && sig == syscall.SIGTERM {
		n.t.Errorf("%s ended with %v", n.name, err)
	}
}

// set calls SetAnnouncements in the speaker's process.
func (n *node) set(prefixes ...string) {
	n.t.Helper()
	fmt.Fprintln(n.in, strings.Join(prefixes, " "))
	n.in.Flush()
	if answer, err := n.out.ReadString('\n'); err != nil || answer != "<nil>\n" {
		n.t.Fatalf("%s: Set(%v) = %q, %v", n.name, prefixes, answer, err)
	}
}

// status asks the speaker's process; the zero Status while it does not answer.
func (n *node) status() Status {
	var st Status
	_ = daemon.Get(n.t.Context(), n.dir, "rhi", "/v1/rhi", &st)
	return st
}

func (n *node) peer(name string) Peer {
	for _, p := range n.status().Peers {
		if p.Name == name {
			return p
		}
	}
	return Peer{}
}

// up reports whether the session with the named peer is established.
func (n *node) up(peer string) bool { return n.peer(peer).State == established }

func (n *node) route(prefix string) (Route, bool) {
	for _, r := range n.status().Routes {
		if r.Prefix.String() == prefix {
			return r, true
		}
	}
	return Route{}, false
}

// kernel gives the next hops of the namespace's kernel route of our protocol, "" when there is none.
func (n *node) kernel(prefix string) string {
	n.t.Helper()
	ours, _, err := (&fib{nl: n.ns.Link}).list()
	if err != nil {
		n.t.Fatal(err)
	}
	hops, ok := ours[netip.MustParsePrefix(prefix)]
	if !ok {
		return ""
	}
	return strings.Trim(fmt.Sprint(hops), "[]")
}

// eventually waits for a condition and gives the time that it took.
func eventually(t testing.TB, what string, within time.Duration, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(start) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
	took := time.Since(start)
	t.Logf("%s: after %v", what, took.Round(time.Millisecond))
	return took
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
