package bodies

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles/replica/chain"
	"anycastle/mailroles/replica/wire"
	"anycastle/mailroles/store"
)

// fakeStore keeps bodies in files.
type fakeStore struct {
	dir string

	mu       sync.Mutex
	bodies   map[string]Body // by name
	missing  []Body
	opening  func(b Body) error // asked before a body is opened; nil: none
	taking   func(b Body) error // asked before a body is taken; nil: none
	took     map[string]int     // how often a body was written
	manifest string
}

var errRotten = errors.New("fake store: size or sum differs")

func newFakeStore(t *testing.T) *fakeStore {
	return &fakeStore{dir: t.TempDir(), bodies: map[string]Body{}, took: map[string]int{}, manifest: "{}\n"}
}

// add has the store have a body with the content.
func (s *fakeStore) add(t *testing.T, name string, content []byte) Body {
	t.Helper()
	b := bodyOf(name, content)
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies[name] = b
	return b
}

func bodyOf(name string, content []byte) Body {
	sum := sha256.Sum256(content)
	return Body{Mailbox: "a@example.org", Name: name, Sum: hex.EncodeToString(sum[:]), Size: int64(len(content)), Date: 1}
}

// miss has messages wait for bodies.
func (s *fakeStore) miss(list ...Body) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = append(s.missing, list...)
}

func (s *fakeStore) TakeBody(b Body, r io.Reader) error {
	s.mu.Lock()
	taking := s.taking
	s.mu.Unlock()
	if taking != nil {
		if err := taking(b); err != nil {
			return err
		}
	}
	if s.HasBody(b) {
		return nil
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if bodyOf(b.Name, content).Sum != b.Sum || int64(len(content)) != b.Size {
		return errRotten
	}
	if err := os.WriteFile(filepath.Join(s.dir, b.Name), content, 0o600); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies[b.Name] = b
	s.took[b.Name]++
	s.missing = slices.DeleteFunc(s.missing, func(m Body) bool { return m == b })
	return nil
}

func (s *fakeStore) HasBody(b Body) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies[b.Name] == b
}

func (s *fakeStore) OpenBody(b Body) (*os.File, error) {
	s.mu.Lock()
	opening := s.opening
	s.mu.Unlock()
	if opening != nil {
		if err := opening(b); err != nil {
			return nil, err
		}
	}
	if !s.HasBody(b) {
		return nil, fmt.Errorf("open %s: %w", b.Name, store.ErrNoMessage)
	}
	return os.Open(filepath.Join(s.dir, b.Name))
}

func (s *fakeStore) Missing(limit int) ([]Body, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.missing[:min(limit, len(s.missing))]), len(s.missing)
}

func (s *fakeStore) WriteManifest(w io.Writer) (chain.Position, error) {
	_, err := io.WriteString(w, s.manifest)
	return chain.Position{Index: 42, Chain: chain.Sum{1, 2, 3}}, err
}

func (s *fakeStore) Mailboxes() []string { return []string{"a@example.org", "ä@example.org"} }

func (s *fakeStore) Digest(mailbox string) (uint64, chain.Sum, error) {
	if mailbox != "a@example.org" {
		return 0, chain.Sum{}, errors.New("no such mailbox")
	}
	return 7, chain.Sum{9}, nil
}

// quick are times for tests: short, and long enough for a machine that is busy.
var quick = Times{State: 20 * time.Millisecond, Timeout: 2 * time.Second, Retry: 10 * time.Millisecond}

// replica is one end in a test.
type replica struct {
	t     *testing.T
	opt   Options
	store *fakeStore
	group *wire.Group
	relay *relay // before its listener
	stop  func() // ends the process
	serve func() // begins it again
}

// newReplicas makes replicas named a, b and so on, at the sites given. Each is reached through a relay.
func newReplicas(t *testing.T, sites ...string) []*replica {
	t.Helper()
	ca := mtlstest.NewCA(t)
	members := map[string]string{}
	var peers []Peer
	var list []*replica
	for i, site := range sites {
		name := string(rune('a' + i))
		r := &replica{t: t, store: newFakeStore(t), relay: newRelay(t)}
		members[name] = r.relay.ln.Addr().String()
		peers = append(peers, Peer{Name: name, Site: site})
		list = append(list, r)
	}
	for i, r := range list {
		self := peers[i]
		material, err := mtls.Load(ca.Node(t, self.Name), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.serve = func() {
			t.Helper()
			r.join(material, self, members)
		}
		r.serve()
		others := slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return p == self })
		r.opt = Options{Self: self, Peers: others, Store: r.store, Net: r, Times: quick}
		t.Cleanup(func() { r.stop() })
	}
	return list
}

// Dial and Accept are those of the group of now.
func (r *replica) Dial(ctx context.Context, kind wire.Kind, member string) (net.Conn, error) {
	return r.group.Dial(ctx, kind, member)
}

func (r *replica) Accept(kind wire.Kind) <-chan net.Conn { return r.group.Accept(kind) }

func (r *replica) join(material *mtls.Material, self Peer, members map[string]string) {
	r.t.Helper()
	node, err := wire.New(wire.Options{
		Self: self.Name, Server: material.Server(), Client: material.ClientOfAny(), Timeout: quick.Timeout,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.group, err = node.Join(wire.GroupOptions{LUN: "lun-east", Members: members}); err != nil {
		r.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.relay.to(ln.Addr().String())
	group := r.group
	stop := r.run(func(ctx context.Context) error { return node.Serve(ctx, ln) })
	r.stop = func() {
		group.Close()
		stop()
	}
}

// run runs f until the test ends or stop is called.
func (r *replica) run(f func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f(ctx); err != nil {
			r.t.Errorf("run of %s: %v", r.opt.Self.Name, err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	r.t.Cleanup(stop)
	return stop
}

// relay passes octets on, until it is frozen: the ends then hear nothing of each other, not even that one has ended.
type relay struct {
	ln net.Listener

	mu     sync.Mutex
	dest   string
	thawed chan struct{} // nil: not frozen
	conns  []net.Conn
}

func newRelay(t *testing.T) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{ln: ln}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(func() {
		r.thaw()
		ln.Close()
		r.cut()
		running.Wait()
	})
	return r
}

func (r *relay) to(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dest = addr
}

func (r *relay) pass(c net.Conn) {
	r.mu.Lock()
	dest := r.dest
	r.mu.Unlock()
	d, err := net.Dial("tcp", dest)
	if err != nil {
		c.Close()
		return
	}
	r.mu.Lock()
	r.conns = append(r.conns, c, d)
	r.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { r.copy(c, d) })
	both.Go(func() { r.copy(d, c) })
	both.Wait()
}

func (r *relay) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		thawed := r.thawed
		r.mu.Unlock()
		if thawed != nil {
			<-thawed
		}
		if n > 0 {
			to.Write(buf[:n])
		}
		if err != nil {
			to.Close()
			from.Close()
			return
		}
	}
}

func (r *relay) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.thawed = make(chan struct{})
}

func (r *relay) thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.thawed != nil {
		close(r.thawed)
		r.thawed = nil
	}
}

// cut closes all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// waitFor waits until ok, which is asked at each change that changed tells of, and now and then.
func waitFor(t *testing.T, what string, changed func() <-chan struct{}, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		var ch <-chan struct{}
		if changed != nil {
			ch = changed()
		}
		if ok() {
			return
		}
		select {
		case <-ch:
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// content makes a body of a size.
func content(size int, seed byte) []byte {
	return bytes.Repeat([]byte{seed, seed + 1, '\n'}, size/3+1)[:size]
}
