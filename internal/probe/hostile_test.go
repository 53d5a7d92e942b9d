package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// drip writes pieces without an end and slowly.
func drip(conn net.Conn, piece string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.WriteString(conn, piece); err != nil {
			return
		}
	}
}

// flood writes pieces without an end and fast.
func flood(conn net.Conn, piece string) {
	big := bytes.Repeat([]byte(piece), 1+4096/len(piece))
	for {
		if _, err := conn.Write(big); err != nil {
			return
		}
	}
}

// hostile is what a target may do to a probe.
var hostile = map[string]func(net.Conn){
	"hangs":         func(c net.Conn) { io.Copy(io.Discard, c) },
	"closes":        func(c net.Conn) { c.(*net.TCPConn).CloseWrite(); io.Copy(io.Discard, c) },
	"resets":        func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) },
	"garbage":       func(c net.Conn) { io.WriteString(c, "\x00\xff\x1b[2J\x7f{9}\r\n\x80\r\n"); io.Copy(io.Discard, c) },
	"drips":         func(c net.Conn) { drip(c, "2") },
	"drips lines":   func(c net.Conn) { drip(c, "220-x\r\n") },
	"endless line":  func(c net.Conn) { flood(c, "2") },
	"endless lines": func(c net.Conn) { flood(c, "220-x\r\n") },
	"endless interim": func(c net.Conn) {
		flood(c, "HTTP/1.1 102 Processing\r\n\r\n")
	},
	"endless headers": func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\n"); flood(c, "X-Y: z\r\n") },
	"endless untagged": func(c net.Conn) {
		io.WriteString(c, "* OK hello\r\n")
		flood(c, "* 1 EXISTS\r\n")
	},
	"endless literal": func(c net.Conn) { io.WriteString(c, "* OK {2000000000}\r\n"); flood(c, "x") },
	"banner, then hangs": func(c net.Conn) {
		io.WriteString(c, "220 mx.example.org\r\n")
		io.Copy(io.Discard, c)
	},
}

func TestHostileTargets(t *testing.T) {
	before, files := runtime.NumGoroutine(), openFiles(t)
	t.Run("each", func(t *testing.T) {
		const noAnswer = "no answer within TIMEOUT"
		line := fmt.Sprintf("a line of more than %d bytes", maxLine)
		for kind, want := range map[string]map[string]string{
			"tls": {
				"hangs": "handshake: " + noAnswer, "closes": "handshake: closed early",
				"garbage": "handshake: tls: first record does not look like a TLS handshake", "drips": "handshake: tls: first record",
				"endless line": "handshake: tls: first record", "endless untagged": "handshake: tls: first record",
			},
			"http": {
				"hangs": "reply: " + noAnswer, "closes": "reply: ", "garbage": "reply: malformed HTTP response",
				"drips": "reply: " + noAnswer, "endless line": "reply: more than 131072 bytes", "endless headers": "reply: more than 131072 bytes",
				"endless interim": "reply: more than 5 replies of status 1xx",
			},
			"smtp": {
				"hangs": "banner: " + noAnswer, "closes": "banner: closed early",
				"garbage": `banner: "\x00\xff\x1b[2J\x7f{9}" is no reply`, "drips": "banner: " + noAnswer, "drips lines": "banner: a reply of more than 100 lines",
				"endless line": "banner: " + line, "endless lines": "banner: a reply of more than 100 lines",
				"banner, then hangs": "EHLO: " + noAnswer,
			},
			"lmtp": {"hangs": "banner: " + noAnswer, "banner, then hangs": "LHLO: " + noAnswer},
			"imap": {
				"hangs": "greeting: " + noAnswer, "closes": "greeting: closed early",
				"garbage": "greeting: " + noAnswer, // it announces a literal
				"drips":   "greeting: " + noAnswer, "drips lines": "greeting: 220-x , want * OK",
				"endless line": "greeting: " + line, "endless untagged": "CAPABILITY: more than ",
				"endless literal": "greeting: more than 65536 bytes",
			},
			"agent-check": {
				"hangs": noAnswer, "closes": "closed early", "garbage": `"\x00\xff\x1b[2J\x7f{9}" is nothing`,
				"drips": noAnswer, "endless line": "a line of more than 1024 bytes",
			},
		} {
			for name, handle := range hostile {
				t.Run(kind+"/"+name, func(t *testing.T) {
					addr := serve(t, handle)
					cfg := Config{Type: kind, Timeout: long, Insecure: true}
					expected, given := want[name]
					switch {
					case strings.HasPrefix(name, "banner") || !given:
						cfg.Timeout = 3 * time.Second // something has to come by then
					case strings.Contains(expected, noAnswer):
						cfg.Timeout = 300 * time.Millisecond
					}
					expected = strings.ReplaceAll(expected, "TIMEOUT", cfg.Timeout.String())
					_, err := try(t.Context(), t, cfg, addr)
					if name == "resets" && !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("error is %v, want a reset", err)
					}
					if err == nil {
						t.Error("the probe passes")
					} else if given {
						wants(t, err, cfg, addr, expected)
					}
				})
			}
		}
	})
	eventually(t, func() error {
		if n, f := runtime.NumGoroutine(), openFiles(t); n > before || f > files {
			return fmt.Errorf("%d goroutines and %d open files are left, of %d and %d before", n, f, before, files)
		}
		return nil
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}
