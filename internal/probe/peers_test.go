package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
)

// try probes an address once by a config.
func try(ctx context.Context, t testing.TB, c Config, addr netip.AddrPort) (Advice, error) {
	t.Helper()
	f, err := compile(&c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	said := Advice{Weight: 100}
	err = failed(f(ctx, Target{Name: "a", Addr: addr, Config: &c}, &said))
	return said, err
}

// long is a timeout that no answer on loopback should need.
const long = 30 * time.Second

// wants checks a probe's error: want is how it goes on after the type and the address; empty means none.
func wants(t testing.TB, err error, c Config, addr netip.AddrPort, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("error is %q, want none", err)
		}
		return
	}
	if err == nil {
		t.Errorf("the probe passes, want %q", want)
		return
	}
	if prefix := fmt.Sprintf("%s %v: ", c.Type, addr); !strings.HasPrefix(err.Error(), prefix+want) {
		t.Errorf("error is %q, want it to begin with %q", err, prefix+want)
	}
	if s := err.Error(); len(s) > maxReason || strings.ContainsFunc(s, unprintable) {
		t.Errorf("error is long or not printable: %q", s)
	}
}

// serve has each connection handled until the test ends.
func serve(t testing.TB, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, addr := listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		ln.Close()
		serving.Wait()
	})
	return addr
}

// script plays lines: those that begin with < are awaited (as the beginning of a line), those that begin with > are
// sent, TLS goes on in TLS, and END closes the connection.
func script(conf *tls.Config, lines ...string) func(net.Conn) {
	return func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for _, l := range lines {
			switch {
			case l == "END":
				return
			case l == "TLS":
				conn = tls.Server(conn, conf)
				in = bufio.NewReader(conn)
			case l[0] == '>':
				io.WriteString(conn, l[1:]+"\r\n")
			default:
				got, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if !strings.HasPrefix(got, l[1:]) {
					fmt.Fprintf(conn, "999 got %q, want %q\r\n", got, l[1:])
					return
				}
			}
		}
		io.Copy(io.Discard, conn)
	}
}

// certificates are those of a server for mx.example.org, valid for an hour, and the file of their CA.
func certificates(t testing.TB) (*tls.Config, mtls.Files) {
	t.Helper()
	files := mtlstest.NewCA(t).Node(t, "mx")
	m, err := mtls.Load(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.Public(), files
}

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
