package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
)

// side is one node under test, which serves until the test ends.
type side struct {
	node *Node
	addr string
	tls  *mtls.Material
}

func newSide(t *testing.T, ca *mtlstest.CA, name string, timeout time.Duration) *side {
	t.Helper()
	material, err := mtls.Load(ca.Node(t, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	node, err := New(Options{Self: name, Server: material.Server(), Client: material.ClientOfAny(), Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	s := &side{node: node, tls: material}
	s.addr = s.serve(t, node)
	return s
}

func (s *side) serve(t *testing.T, node *Node) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := node.Serve(ctx, ln); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	return ln.Addr().String()
}

func (s *side) join(t *testing.T, lun string, era uint64, members map[string]string) *Group {
	t.Helper()
	g, err := s.node.Join(GroupOptions{LUN: lun, Members: members, Era: func() uint64 { return era }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// accept takes the next connection of a kind.
func accept(t *testing.T, g *Group, kind Kind) net.Conn {
	t.Helper()
	select {
	case c := <-g.Accept(kind):
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	case <-time.After(10 * time.Second):
		t.Fatalf("no connection for %s", kind)
		return nil
	}
}

func TestDialReachesTheKindOfTheLUN(t *testing.T) {
	ca := mtlstest.NewCA(t)
	a, b := newSide(t, ca, "a", 0), newSide(t, ca, "b", 0)
	members := map[string]string{"a": a.addr, "b": b.addr}
	for _, lun := range []string{"lun-east", "lun-west"} {
		ga, gb := a.join(t, lun, 3, members), b.join(t, lun, 3, members)
		for _, kind := range kinds {
			t.Run(lun+"/"+string(kind), func(t *testing.T) {
				c, err := ga.Dial(t.Context(), kind, "b")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				got := accept(t, gb, kind)
				if Peer(got) != "a" || Peer(c) != "b" || got.(*Conn).Era != 3 {
					t.Errorf("accepted from %q in era %d, dialled %q", Peer(got), got.(*Conn).Era, Peer(c))
				}
				text := lun + string(kind)
				if _, err := io.WriteString(c, text); err != nil {
					t.Fatal(err)
				}
				heard := make([]byte, len(text))
				if _, err := io.ReadFull(got, heard); err != nil || string(heard) != text {
					t.Errorf("heard %q, %v", heard, err)
				}
				c.Close()
				if _, err := got.Read(heard); err == nil {
					t.Error("the other end of a closed connection reads on")
				}
			})
		}
	}
}

func TestDialIsRefused(t *testing.T) {
	ca := mtlstest.NewCA(t)
	a, b := newSide(t, ca, "a", 0), newSide(t, ca, "b", 0)
	stranger := newSide(t, mtlstest.NewCA(t), "a", 0)
	members := map[string]string{"a": a.addr, "b": b.addr}
	old := a.join(t, "old", 1, members)
	b.join(t, "old", 2, members)
	elsewhere := a.join(t, "elsewhere", 1, members)
	outside := a.join(t, "outside", 1, members)
	b.join(t, "outside", 1, map[string]string{"b": b.addr})
	strange := stranger.join(t, "old", 2, members)
	for _, tc := range []struct {
		name    string
		group   *Group
		kind    Kind
		to      string
		refused bool
		want    string // in the error; empty: none
	}{
		{"another era", old, Raft, "b", true, "era of old is 2 here"},
		{"another era, to ask", old, Hello, "b", false, ""},
		{"LUN that is not there", elsewhere, Body, "b", true, "LUN elsewhere is not here"},
		{"no member there", outside, State, "b", true, "a is no member of outside"},
		{"no member here", old, State, "c", false, "it is no member"},
		{"certificate of another CA", strange, Raft, "b", false, "unknown authority"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := tc.group.Dial(t.Context(), tc.kind, tc.to)
			if err == nil {
				c.Close()
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if errors.Is(err, ErrRefused) != tc.refused {
				t.Errorf("refused by the other side: %t, want %t", !tc.refused, tc.refused)
			}
		})
	}
}

// TestMemberThatHangs dials what takes the connection and says nothing.
func TestMemberThatHangs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // its queue takes connections, and nobody else does
	ca := mtlstest.NewCA(t)
	a := newSide(t, ca, "a", 200*time.Millisecond)
	g := a.join(t, "lun-east", 0, map[string]string{"a": a.addr, "b": ln.Addr().String()})
	began := time.Now()
	if _, err := g.Dial(t.Context(), Body, "b"); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("error %v, want a timeout", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Dial(ctx, Body, "b"); err == nil {
		t.Error("dialled although nobody wants it any more")
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

func TestCloseEndsAllConnections(t *testing.T) {
	ca := mtlstest.NewCA(t)
	a, b := newSide(t, ca, "a", 0), newSide(t, ca, "b", 0)
	members := map[string]string{"a": a.addr, "b": b.addr}
	ga, gb := a.join(t, "lun-east", 0, members), b.join(t, "lun-east", 0, members)
	taken, err := ga.Dial(t.Context(), Raft, "b")
	if err != nil {
		t.Fatal(err)
	}
	accept(t, gb, Raft)
	left, err := ga.Dial(t.Context(), Raft, "b") // which nobody takes there
	if err != nil {
		t.Fatal(err)
	}
	gb.Close()
	for _, c := range []net.Conn{taken, left} {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("read after the other side has left the LUN: %v", err)
		}
	}
	if _, err := ga.Dial(t.Context(), Raft, "b"); !errors.Is(err, ErrRefused) {
		t.Errorf("dial after it has left: %v, want ErrRefused", err)
	}
	if _, err := gb.Dial(t.Context(), Raft, "a"); !errors.Is(err, ErrClosed) {
		t.Errorf("dial in a group that is closed: %v, want ErrClosed", err)
	}
	again := b.join(t, "lun-east", 0, members)
	c, err := ga.Dial(t.Context(), Raft, "b")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accept(t, again, Raft)
}

// TestOldestConnectionMakesRoom has a member come back more often than its old connections are found dead.
func TestOldestConnectionMakesRoom(t *testing.T) {
	ca := mtlstest.NewCA(t)
	a, b := newSide(t, ca, "a", 0), newSide(t, ca, "b", 0)
	members := map[string]string{"a": a.addr, "b": b.addr}
	ga, gb := a.join(t, "lun-east", 0, members), b.join(t, "lun-east", 0, members)
	var dialled []net.Conn
	for range maxConns + 1 {
		c, err := ga.Dial(t.Context(), State, "b")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		accept(t, gb, State)
		dialled = append(dialled, c)
	}
	dialled[0].SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := dialled[0].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the oldest connection is still open: %v", err)
	}
	dialled[1].SetDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := dialled[1].Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("the second oldest is not open any more: %v", err)
	}
}

// TestStrangersDoNotKeepMembersOut opens as many connections as may say nothing, and more.
func TestStrangersDoNotKeepMembersOut(t *testing.T) {
	ca := mtlstest.NewCA(t)
	a, b := newSide(t, ca, "a", time.Minute), newSide(t, ca, "b", time.Minute)
	members := map[string]string{"a": a.addr, "b": b.addr}
	ga := a.join(t, "lun-east", 0, members)
	for range maxStrangers + 8 {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	gb := b.join(t, "lun-east", 0, members)
	c, err := ga.Dial(t.Context(), Hello, "b")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accept(t, gb, Hello)
	b.node.mu.Lock()
	defer b.node.mu.Unlock()
	for from, n := range b.node.pending {
		if n > maxStrangers {
			t.Errorf("%d connections of %s wait", n, from)
		}
	}
}

func TestListenerRefusesOthers(t *testing.T) {
	ca := mtlstest.NewCA(t)
	b := newSide(t, ca, "b", 300*time.Millisecond)
	b.join(t, "lun-east", 0, map[string]string{"a": "127.0.0.1:1", "b": b.addr})
	a := newSide(t, ca, "a", 0)
	for _, tc := range []struct{ name, say, want string }{
		{"nothing", "", ""},
		{"another protocol", "GET / HTTP/1.1\n", "no parse preamble"},
		{"no end", strings.Repeat("x", 4*maxLine), ""},
		{"no kind", "anycastle-replica 1 lun-east mail a 0\n", "no parse preamble"},
		{"not the certificate of whom it says", "anycastle-replica 1 lun-east raft b 0\n", "no the certificate names"},
		{"good", "anycastle-replica 1 lun-east raft a 0\n", "ok"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := tls.Dial("tcp", b.addr, a.tls.ClientOfAny())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.WriteString(c, tc.say); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			if !strings.HasPrefix(line, tc.want) || tc.want == "" && line != "" {
				t.Errorf("answer %q, want %q", line, tc.want)
			}
		})
	}
}

// brokenListener fails until it is closed.
type brokenListener struct {
	net.Listener
	tries atomic.Int32
	third func()
}

func (l *brokenListener) Accept() (net.Conn, error) {
	if l.tries.Add(1) == 3 {
		l.third()
	}
	return nil, errors.New("too many open files")
}

func TestServeGoesOnWhenAcceptFails(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	broken := &brokenListener{Listener: ln, third: cancel}
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "a"), nil)
	if err != nil {
		t.Fatal(err)
	}
	node, err := New(Options{Self: "a", Server: material.Server(), Client: material.ClientOfAny()})
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Serve(ctx, broken); err != nil {
		t.Errorf("serve: %v", err)
	}
	if n := broken.tries.Load(); n != 3 {
		t.Errorf("%d tries, want 3", n)
	}
}

func TestJoinRefuses(t *testing.T) {
	node, err := New(Options{Self: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Join(GroupOptions{LUN: "lun-east"}); err != nil {
		t.Fatal(err)
	}
	for i, opt := range []GroupOptions{
		{LUN: "lun-east"}, {LUN: ""}, {LUN: "lun east"}, {LUN: "other", Members: map[string]string{"a\n": "192.0.2.1:1"}},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			if _, err := node.Join(opt); err == nil {
				t.Errorf("joined %+v", opt)
			}
		})
	}
	if _, err := New(Options{Self: "a b"}); err == nil {
		t.Error("a node has a blank in its name")
	}
}
