package imapfront

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles/accept"
	"anycastle/mailroles/tally"
)

const (
	// idleSessions is how many clients the benchmark has.
	idleSessions = 5000
	// settle is how long they are left alone before the memory is read: twice what the front end waits before it gives
	// memory back.
	settle = 10 * time.Second
	// idleEnv holds what the benchmark's front end is told, as JSON.
	idleEnv = "ANYCASTLE_IDLE_FRONT"
)

// idleFront is the front end of the benchmark, in a process of its own.
type idleFront struct {
	TLS   mtls.Files
	Store netip.AddrPort
}

func TestMain(m *testing.M) {
	if text := os.Getenv(idleEnv); text != "" {
		if err := serveIdle(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveIdle serves until its input ends, and says where.
func serveIdle(text string) error {
	var f idleFront
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return err
	}
	material, err := mtls.Load(f.TLS, nil)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with the benchmark
		cancel()
	}()
	var t tally.Tally
	return NewServer(Options{
		Directory: newBook(), LUNs: map[string]netip.AddrPort{"lun-east": f.Store},
		PublicTLS: material.Public(), LinkTLS: material.ClientOfAny(), MaxSessions: 2 * idleSessions,
		Grace: time.Second, Log: slog.New(slog.DiscardHandler), Tally: &t,
	}).Run(ctx, Listener{Listener: ln, TLS: true})
}

// BenchmarkIdleSessions reports by how much the front end's process grows for each client that has logged in over TLS, has
// read a mail, and idles; the link to the store included.
func BenchmarkIdleSessions(b *testing.B) {
	for b.Loop() {
		files := mtlstest.NewCA(b).Node(b, "node")
		material, err := mtls.Load(files, nil)
		if err != nil {
			b.Fatal(err)
		}
		front := startFront(b, idleFront{TLS: files, Store: idleStore(b, material.Server())})
		front.crowd(b, 1) // what the first session brings with it is not each one's
		before := front.rss(b)
		front.crowd(b, idleSessions)
		b.ReportMetric(float64(front.rss(b)-before)/idleSessions, "B_at_once/session")
		time.Sleep(settle)
		b.ReportMetric(float64(front.rss(b)-before)/idleSessions, "B/session")
		b.ReportMetric(0, "ns/op")
	}
}

type frontProcess struct {
	pid  int
	addr string
}

func startFront(b *testing.B, f idleFront) frontProcess {
	text, err := json.Marshal(f)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), idleEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return frontProcess{pid: cmd.Process.Pid, addr: strings.TrimSpace(line)}
}

// rss is what the process has in memory, in bytes.
func (f frontProcess) rss(b *testing.B) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	rest, _, ok := strings.Cut(rest, "kB")
	kb, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
	if !ok || err != nil {
		b.Fatalf("no VmRSS in %s", text)
	}
	return kb << 10
}

// crowd logs so many clients in, a few at a time, and has them idle until the benchmark ends.
func (f frontProcess) crowd(b *testing.B, n int) {
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range work {
				if err := f.idle(b); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// idle has one client log in, read a mail and idle.
func (f frontProcess) idle(b *testing.B) error {
	conn, err := tls.Dial("tcp", f.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	b.Cleanup(func() { conn.Close() })
	br := bufio.NewReaderSize(conn, 64)
	for _, step := range []struct{ text, answer string }{
		{"", "* OK"},
		{"a LOGIN " + alice + " " + secret + "\r\n", "a OK"},
		{"b FETCH 1 BODY[]\r\n", "b OK"},
		{"c IDLE\r\n", "+ "},
	} {
		if _, err := io.WriteString(conn, step.text); err != nil {
			return err
		}
		for line := ""; !strings.HasPrefix(line, step.answer); {
			if line, err = br.ReadString('\n'); err != nil {
				return fmt.Errorf("want %q: %w", step.answer, err)
			}
		}
	}
	return nil
}

// idleStore serves logins and two commands.
func idleStore(b *testing.B, config *tls.Config) netip.AddrPort {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ln := accept.Linked(raw, func(_ net.Addr, err error) { b.Error(err) })
	var serving sync.WaitGroup
	serving.Go(func() {
		_ = accept.Loop(ctx, ln, func(conn net.Conn) {
			serving.Go(func() { answerIdle(tls.Server(conn, config)) })
		})
	})
	b.Cleanup(func() { cancel(); ln.Close(); serving.Wait() })
	return netip.MustParseAddrPort(raw.Addr().String())
}

// answerIdle plays the store until the front end goes.
func answerIdle(conn *tls.Conn) {
	defer conn.Close()
	mail := strings.Repeat("x", 2000)
	answers := map[string]string{
		"AUTHENTICATE": "TAG OK [CAPABILITY IMAP4rev1] logged in\r\n",
		"FETCH":        fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n%s)\r\nTAG OK done\r\n", len(mail), mail),
		"IDLE":         "+ idling\r\n",
	}
	_, err := io.WriteString(conn, "* OK store\r\n")
	for br := bufio.NewReaderSize(conn, 64); err == nil; {
		var line string
		if line, err = br.ReadString('\n'); err != nil {
			return
		}
		words := strings.Fields(line)
		_, err = io.WriteString(conn, strings.ReplaceAll(answers[words[1]], "TAG", words[0]))
	}
}
