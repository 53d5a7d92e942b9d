package smtpd

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/porttest"
	"anycastle/mailroles/link"
	"anycastle/mailroles/store"
	"anycastle/mailroles/tally"
)

// wandering is a LUN whose store moves: it ends at its address, and another opens the same tree there.
type wandering struct {
	t      *testing.T
	root   string
	addr   string
	link   *tls.Config
	server *Server
	end    func()
}

func (w *wandering) begin() {
	w.t.Helper()
	mail, err := store.Open(w.root, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = NewServer(Options{
		Hostname: "store.example.org", LinkTLS: w.link, MaxSize: 1 << 20, MaxSessions: 100,
		Handler: &Store{LUN: "east", Directory: oneLUN{}, Mail: mail, Log: slog.New(slog.DiscardHandler)},
		Log:     slog.New(slog.DiscardHandler), Tally: &tally.Tally{},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Run(ctx, ln) }()
	w.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		if err := mail.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

// TestLUNMovesUnderDeliveries moves a LUN ten times, every second time without a word before. No delivery may fail, and no
// message may be there twice.
func TestLUNMovesUnderDeliveries(t *testing.T) {
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := &wandering{t: t, root: t.TempDir(), addr: porttest.Free(t, "127.0.0.1").String(), link: material.Server()}
	w.begin()
	defer func() { w.end() }()
	pool := link.NewPool("mx.example.org", material.ClientOfAny(), slog.New(slog.DiscardHandler))
	defer pool.Close()
	addr := netip.MustParseAddrPort(w.addr)
	var stop atomic.Bool
	var sent atomic.Int64
	var sending sync.WaitGroup
	for i := range 4 {
		sending.Go(func() {
			for n := 0; !stop.Load(); n++ {
				text := fmt.Sprintf("Message-ID: <%d.%d@x>\r\n\r\n%s\r\n", i, n, strings.Repeat("text ", n%5000))
				m := link.Message{From: "x@example.org", Body: func() io.Reader { return strings.NewReader(text) }}
				to := []link.Recipient{{Address: "a@example.org"}, {Address: "b@example.org"}}
				for k, err := range pool.Deliver(context.Background(), addr, m, to) {
					if err != nil {
						t.Errorf("message %d.%d to %s: %v", i, n, to[k].Address, err)
					}
				}
				sent.Add(1)
			}
		})
	}
	for i := range 10 {
		before := sent.Load()
		await(t, func() bool { return t.Failed() || sent.Load() > before+8 })
		release := func() {}
		if i%2 == 0 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			release = w.server.Hold(ctx)
			if ctx.Err() != nil {
				t.Error("messages are on their way though the LUN is to move")
			}
			cancel()
		}
		w.end()
		release()
		w.begin()
	}
	stop.Store(true)
	sending.Wait()
	for _, box := range []string{"a@example.org", "b@example.org"} {
		ids := map[string]int{}
		for _, text := range files(t, w.root, box, "") {
			_, id, _ := strings.Cut(text, "Message-ID: ")
			id, _, _ = strings.Cut(id, "\r\n")
			if ids[id]++; ids[id] > 1 {
				t.Errorf("%s has %s more than once", box, id)
			}
		}
		if int64(len(ids)) != sent.Load() {
			t.Errorf("%s has %d messages of %d", box, len(ids), sent.Load())
		}
	}
}

// await waits until something is so.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain")
		}
	}
}
