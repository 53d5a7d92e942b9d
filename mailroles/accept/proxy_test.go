package accept

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// binary2 is a header of version 2 by hand: command 0 is LOCAL, 1 is PROXY.
func binary2(command, family byte, body string) string {
	return string(signature2) + string([]byte{0x20 | command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

const (
	tcp4 = "\xc0\x00\x02\x07\xcb\x00\x71\x0a\x10\x92\x00\x19"
	tcp6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x10\x92\x00\x19"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xcb\x00\x71\x0a\x10\x92\x00\x19"
)

var headers = []struct {
	name, text string
	client     string // empty: the proxy's own
	bad        bool
}{
	{name: "text, IPv4", text: "PROXY TCP4 192.0.2.7 203.0.113.10 4242 25\r\n", client: "192.0.2.7:4242"},
	{name: "text, IPv6", text: "PROXY TCP6 2001:db8::7 2001:db8:1::10 4242 25\r\n", client: "[2001:db8::7]:4242"},
	{name: "text, unknown", text: "PROXY UNKNOWN\r\n"},
	{name: "text, unknown with more", text: "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"},
	{name: "binary, IPv4", text: binary2(1, 0x11, tcp4), client: "192.0.2.7:4242"},
	{name: "binary, IPv6", text: binary2(1, 0x21, tcp6), client: "[2001:db8::7]:4242"},
	{name: "binary, IPv4 in IPv6", text: binary2(1, 0x21, mapped), client: "192.0.2.7:4242"},
	{name: "binary, with a field", text: binary2(1, 0x11, tcp4+"\x04\x00\x02ab"), client: "192.0.2.7:4242"},
	{name: "binary, LOCAL", text: binary2(0, 0x00, "")},
	{name: "binary, LOCAL with addresses", text: binary2(0, 0x11, tcp4)},
	{name: "binary, of no family", text: binary2(1, 0x00, "")},
	{name: "binary, UDP", text: binary2(1, 0x12, tcp4), bad: true},
	{name: "binary, too short", text: binary2(1, 0x21, tcp4), bad: true},
	{name: "binary, no command", text: binary2(5, 0x11, tcp4), bad: true},
	{name: "binary, endless", text: binary2(1, 0x11, strings.Repeat("x", longestBinary+1)), bad: true},
	{name: "text, endless", text: "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n", bad: true},
	{name: "text, no address", text: "PROXY TCP4 192.0.2 203.0.113.10 4242 25\r\n", bad: true},
	{name: "text, LF alone", text: "PROXY TCP4 192.0.2.7 203.0.113.10 4242 25\n", bad: true},
	{name: "text, of another family", text: "PROXY TCP4 2001:db8::7 2001:db8:1::10 4242 25\r\n", bad: true},
	{name: "SMTP", text: "EHLO client.example.org\r\n", bad: true},
	{name: "something that begins so", text: "PROXYTCP4 192.0.2.7\r\n", bad: true},
	{name: "TLS", text: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03rest", bad: true},
}

// heard is what came of a connection.
type heard struct {
	client string
	text   string
}

// meeting is a listener on loopback and what it has heard and refused.
type meeting struct {
	t       *testing.T
	ln      net.Listener
	conns   chan heard
	refused chan error
	serving sync.WaitGroup
}

func meet(t *testing.T, wrap func(net.Listener, Refused) net.Listener) *meeting {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meeting{t: t, conns: make(chan heard, 10), refused: make(chan error, 10)}
	m.ln = wrap(raw, func(_ net.Addr, err error) { m.refused <- err })
	m.serving.Go(func() {
		for {
			conn, err := m.ln.Accept()
			if err != nil {
				return
			}
			text, _ := io.ReadAll(conn)
			m.conns <- heard{conn.RemoteAddr().String(), string(text)}
			conn.Close()
		}
	})
	t.Cleanup(func() { m.ln.Close(); m.serving.Wait() })
	return m
}

// say connects, says something and closes. It gives the client's own address.
func (m *meeting) say(text string) string {
	m.t.Helper()
	conn, err := net.Dial("tcp", m.ln.Addr().String())
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	for _, part := range []string{text[:len(text)/2], text[len(text)/2:]} {
		_, _ = io.WriteString(conn, part) // it may have been refused by then; what is heard tells
	}
	return conn.LocalAddr().String()
}

func (m *meeting) hear() heard {
	m.t.Helper()
	select {
	case h := <-m.conns:
		return h
	case err := <-m.refused:
		m.t.Fatalf("refused: %v", err)
	case <-time.After(15 * time.Second):
		m.t.Fatal("nothing was heard")
	}
	return heard{}
}

func TestProxied(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.0/8")}
	m := meet(t, func(ln net.Listener, r Refused) net.Listener { return Proxied(ln, trusted, r) })
	for _, tt := range headers {
		t.Run(tt.name, func(t *testing.T) {
			self := m.say(tt.text + "\x00the rest")
			if tt.bad {
				select {
				case err := <-m.refused:
					t.Log(err)
				case h := <-m.conns:
					t.Fatalf("taken, from %s with %q", h.client, h.text)
				case <-time.After(15 * time.Second):
					t.Fatal("nothing came of it")
				}
				return
			}
			want := heard{tt.client, "\x00the rest"}
			if want.client == "" {
				want.client = self
			}
			if got := m.hear(); got != want {
				t.Errorf("heard %+v, want %+v", got, want)
			}
		})
	}
}

// TestStrangersHeaderIsJunk has somebody send a header who may not: the server gets to see it as the client's first words.
func TestStrangersHeaderIsJunk(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	m := meet(t, func(ln net.Listener, r Refused) net.Listener { return Proxied(ln, trusted, r) })
	for _, h := range headers {
		self := m.say(h.text)
		if got := m.hear(); got != (heard{self, h.text}) {
			t.Errorf("%s: heard %+v", h.name, got)
		}
	}
}

func TestLinked(t *testing.T) {
	m := meet(t, Linked)
	const hello = "\x16\x03\x01\x02\x00rest"
	self := m.say(hello)
	if got := m.hear(); got != (heard{self, hello}) {
		t.Errorf("without a header: %+v", got)
	}
	client := &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 4242}
	head, err := Header(client, &net.TCPAddr{IP: net.ParseIP("2001:db8:1::10"), Port: 143})
	if err != nil {
		t.Fatal(err)
	}
	m.say(string(head) + hello)
	if got := m.hear(); got != (heard{"[2001:db8::7]:4242", hello}) {
		t.Errorf("with a header: %+v", got)
	}
	m.say("\r\n\r\nno header at all")
	if err := <-m.refused; !errors.Is(err, errHeader) {
		t.Errorf("junk: %v", err)
	}
}

// TestWhoIsSlowKeepsNobodyWaiting has one proxy say nothing while others are served, and the listener close.
func TestWhoIsSlowKeepsNobodyWaiting(t *testing.T) {
	m := meet(t, func(ln net.Listener, r Refused) net.Listener {
		return Proxied(ln, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, r)
	})
	var silent []net.Conn
	m.say("") // a probe, which is no refusal
	for range 3 {
		conn, err := net.Dial("tcp", m.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	m.say(headers[0].text + "hello")
	if got := m.hear(); got.text != "hello" {
		t.Errorf("heard %+v", got)
	}
	if err := m.ln.Close(); err != nil {
		t.Error(err)
	}
	for _, conn := range silent {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a connection that waits outlives its listener: %v", err)
		}
	}
	if len(m.refused) > 0 {
		t.Errorf("the end of the listener counts as a refusal: %v", <-m.refused)
	}
}

// TestHeaderIsAwaitedForSomeTimeOnly has peers stop before, and in the middle of, their header.
func TestHeaderIsAwaitedForSomeTimeOnly(t *testing.T) {
	for _, text := range []string{"", "P", "PROXY TCP4 192.0.2.7 ", "\r\n\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			go io.WriteString(client, text)
			start := time.Now()
			_, err := identify(server, mustHeader)
			if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took != headerTime {
				t.Errorf("%q: %v after %v, want a time-out after %v", text, err, took, headerTime)
			}
		})
	}
}

// TestProbeSaysNothing has a peer connect and go, by a close or by a reset, as front ends' probes of a store do.
func TestProbeSaysNothing(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, linger := range []int{-1, 0} {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(client.(*net.TCPConn).SetLinger(linger), client.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := identify(server, mayHeader); !errors.Is(err, errNothing) {
			t.Errorf("linger %d: %v, want %v", linger, err, errNothing)
		}
		server.Close()
	}
}

// TestHeadersAreNoTLS makes sure that the first byte tells a header from TLS.
func TestHeadersAreNoTLS(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() { _ = tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Handshake() }() // it ends with the pipe
	first := make([]byte, 1)
	if _, err := server.Read(first); err != nil {
		t.Fatal(err)
	}
	if slices.Contains([]byte{signature1[0], signature2[0]}, first[0]) {
		t.Errorf("TLS begins with %x", first)
	}
}

func FuzzHeader(f *testing.F) {
	for _, h := range headers {
		f.Add([]byte(h.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) == 0 {
			return
		}
		const behind = "behind"
		r := bytes.NewReader(append(slices.Clone(text), behind...))
		first, _ := r.ReadByte()
		client, err := readHeader(first, r)
		if err != nil {
			return
		}
		read := len(text) + len(behind) - r.Len()
		again := bytes.NewReader(text[1:min(read, len(text))])
		same, err := readHeader(text[0], again)
		if read > len(text) { // its end was made by what is behind it
			return
		}
		if err != nil || again.Len() > 0 || (same == nil) != (client == nil) || client != nil && client.String() != same.String() {
			t.Fatalf("%q: %v, and alone %v, %v", text[:read], client, same, err)
		}
		if client != nil && !netip.MustParseAddrPort(client.String()).IsValid() {
			t.Fatalf("client %v", client)
		}
	})
}
