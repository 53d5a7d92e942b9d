package lb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"anycastle/bpf"
	"anycastle/internal/pcapng"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/pcapgo"
)

// fakeTap captures what it is given.
type fakeTap struct {
	packets chan bpf.Captured
	lost    atomic.Uint64
	running atomic.Bool
	filter  bpf.CaptureFilter
}

func (f *fakeTap) CaptureLost() (uint64, error) { return f.lost.Load(), nil }

func (f *fakeTap) Capture(ctx context.Context, filter bpf.CaptureFilter, report func(bpf.Captured)) error {
	f.filter = filter
	f.running.Store(true)
	defer f.running.Store(false)
	for {
		select {
		case c := <-f.packets:
			report(c)
		case <-ctx.Done():
			return nil
		}
	}
}

// noSuchLink is the index of no interface here.
const noSuchLink = 1 << 30

// tapped is an LB that answers on HTTP, with the tables of ofEveryKind and a fake to capture with.
type tapped struct {
	t    *testing.T
	lb   *LB
	loop *loop
	tap  *fakeTap
	log  *journal
	url  string
}

func newTapped(t *testing.T) *tapped {
	t.Helper()
	f := &tapped{t: t, tap: &fakeTap{packets: make(chan bpf.Captured)}, log: &journal{}}
	cfg := mustParseWithoutFiles(t, ofEveryKind)
	var err error
	f.lb, err = New(*cfg, Options{Log: slog.New(slog.NewTextHandler(f.log, nil))})
	check(t, err)
	f.loop = newLoop(f.lb, newFakePlane(), newTables())
	f.loop.in = *allPassing(cfg)
	for addr, hop := range f.loop.in.hops {
		hop.Ifindex = noSuchLink
		f.loop.in.hops[addr] = hop
	}
	want := newTables() // all of what is desired but the slots, which take long to compute
	f.loop.in.placeReals(f.loop.have, want)
	f.loop.in.placeVIPs(f.loop.have, want, f.loop.in.placeFarms(f.loop.have), nil, epoch)
	f.loop.have = want
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // in place of the loop's own
		defer close(done)
		for {
			select {
			case q := <-f.lb.questions:
				q(f.loop)
			case <-ctx.Done():
				return
			}
		}
	}()
	f.lb.setRunning(true)
	f.lb.view.uplinks = []bpf.Uplink{{Name: "lo"}}
	f.lb.taps.open(f.tap)
	mux := http.NewServeMux()
	for pattern, h := range f.lb.Handlers() {
		mux.HandleFunc(pattern, h)
	}
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
	srv.Start()
	f.url = srv.URL
	t.Cleanup(func() { f.lb.taps.close(); srv.Close(); cancel(); <-done })
	return f
}

// get begins a capture.
func (f *tapped) get(query string) *http.Response {
	f.t.Helper()
	res, err := (&http.Client{Timeout: patience}).Get(f.url + "/v1/capture?" + query)
	check(f.t, err)
	f.t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		f.t.Fatalf("%s: %s", res.Status, text)
	}
	return res
}

// give has a packet captured.
func (f *tapped) give(c bpf.Captured) {
	f.t.Helper()
	select {
	case f.tap.packets <- c:
	case <-time.After(patience):
		f.t.Fatalf("nobody takes %q", c.In)
	}
}

func (f *tapped) refusal(query string) string {
	f.t.Helper()
	res, err := http.Get(f.url + "/v1/capture?" + query)
	check(f.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	check(f.t, err)
	if res.StatusCode != http.StatusUnprocessableEntity {
		f.t.Fatalf("%s: status %s with %q", query, res.Status, text)
	}
	return strings.TrimSpace(string(text))
}

// indexes are those that the tables have.
func (f *tapped) indexes() (vip, real map[string]uint32) {
	vip, real = map[string]uint32{}, map[string]uint32{}
	n := f.loop.names()
	for i, v := range n.vips {
		vip[v.name] = i + 1
	}
	for i, r := range n.reals {
		for farm, name := range r.by {
			real[farm+"/"+name] = i
		}
	}
	return vip, real
}

// captured makes a packet whose frames say which it is.
func captured(n int, t bpf.Trace) bpf.Captured {
	in, out := fmt.Appendf(nil, "frame %d comes", n), fmt.Appendf(nil, "frame %d goes", n)
	t.At, t.InLen, t.OutLen = uint64(1000+n), 100, 120
	if t.Verdict == uint32(bpf.Drop) {
		out, t.OutLen = nil, 0
	}
	return bpf.Captured{Trace: t, At: time.Now(), In: in, Out: out}
}

// frames reads a capture with the library's reader: a line for each frame, and what was lost.
func frames(t *testing.T, file io.Reader) (lines []string, lost uint64) {
	t.Helper()
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	check(t, err)
	for {
		data, info, opts, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		i, err := r.Interface(info.InterfaceIndex)
		check(t, err)
		want := "in"
		if opts.Flags.Direction == pcapgo.NgEpbFlag(pcapng.Out) {
			want = "out"
		}
		if !strings.HasSuffix(i.Name, " "+want) {
			t.Errorf("%q, which goes %s, on interface %q", data, want, i.Name)
		}
		lines = append(lines, fmt.Sprintf("%s: %.20q of %d; %s", i.Name, data, info.Length, strings.Join(opts.Comments, "|")))
	}
	for id := range r.NInterfaces() {
		i, err := r.Interface(id)
		check(t, err)
		lost += i.Statistics.PacketsDropped
	}
	return lines, lost
}

// TestCaptureStream captures a packet of every fate.
func TestCaptureStream(t *testing.T) {
	f := newTapped(t)
	vip, real := f.indexes()
	res := f.get("count=6&snap=99&time=1h")
	mx1, imap1, imap2 := uint16(real["smtp/mx1"]), uint16(real["imap/imap1"]), uint16(real["imap/imap2"])
	old := captured(99, bpf.Trace{Verdict: uint32(bpf.Pass), Ifindex: 1})
	old.At = time.Now().Add(-time.Hour)
	f.give(old) // that an earlier capture has left
	for i, trace := range []bpf.Trace{
		{Vip: vip["smtp"], Real: mx1, Verdict: uint32(bpf.TX)},
		{Vip: vip["imap"], Real: imap1, Second: imap2, Verdict: uint32(bpf.Redirect)},
		{Vip: vip["smtp"], Real: mx1, Verdict: uint32(bpf.Drop), Reason: bpf.Reasons()["ttl_expired"]},
		{Vip: vip["smtp"], Verdict: uint32(bpf.TX)},
		{Verdict: uint32(bpf.Pass)},
		{Vip: 4000, Real: 4000, Verdict: uint32(bpf.Redirect)},
	} {
		trace.Ifindex = 1
		f.tap.lost.Store(uint64(i))
		f.give(captured(i, trace))
	}
	got, lost := frames(t, res.Body)
	hop := fmt.Sprintf("interface %d out", noSuchLink)
	want := []string{
		`lo in: "frame 0 comes" of 100; forwarded to smtp/mx1; vip smtp`,
		hop + `: "frame 0 goes" of 120; forwarded to smtp/mx1; vip smtp`,
		`lo in: "frame 1 comes" of 100; forwarded to imap/imap1, second chance imap/imap2; vip imap`,
		hop + `: "frame 1 goes" of 120; forwarded to imap/imap1, second chance imap/imap2; vip imap`,
		`lo in: "frame 2 comes" of 100; dropped: ttl_expired; vip smtp`,
		`lo in: "frame 3 comes" of 100; answered; vip smtp`,
		`lo out: "frame 3 goes" of 120; answered; vip smtp`,
		`lo in: "frame 4 comes" of 100; passed to the kernel`,
		`lo in: "frame 5 comes" of 100; forwarded to real 4000`,
		`lo out: "frame 5 goes" of 120; forwarded to real 4000`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	if lost != 5 || f.tap.filter != (bpf.CaptureFilter{CapLen: 99}) {
		t.Errorf("%d lost, filter %+v", lost, f.tap.filter)
	}
	f.ends()
	if log := strings.Join(f.log.take(), ""); !strings.Contains(log, "capture begins") || !strings.Contains(log, "packets=6") {
		t.Errorf("log:\n%s", log)
	}
}

// ends waits until another capture can begin.
func (f *tapped) ends() {
	f.t.Helper()
	eventually(f.t, "the end of a capture", func() bool {
		_, end, err := f.lb.taps.begin(func() {})
		if err == nil {
			end()
		}
		return err == nil
	})
}

// TestCaptureEnds by time, by a reader that has gone, by one that no longer reads, and with the balancer.
func TestCaptureEnds(t *testing.T) {
	f := newTapped(t)
	begun := time.Now()
	res := f.get("time=600ms")
	f.tap.lost.Add(1) // which is told at once, and later than the server's own bounds
	_, err := io.Copy(io.Discard, res.Body)
	if took := time.Since(begun); err != nil || took < 600*time.Millisecond {
		t.Errorf("by time: %v after %v", err, took)
	}
	f.ends()

	res = f.get("time=1h")
	if text := f.refusal(""); !strings.Contains(text, "another capture is running") {
		t.Errorf("a second capture: %s", text)
	}
	res.Body.Close()
	f.ends()

	res = f.get("time=100ms&count=1000000")
	endless, stop := context.WithCancel(t.Context())
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		big := captured(1, bpf.Trace{Verdict: uint32(bpf.Pass), Ifindex: 1})
		big.Trace.InLen, big.In = 2000, make([]byte, 2000)
		for {
			big.At = time.Now()
			select {
			case f.tap.packets <- big:
			case <-endless.Done():
				return
			}
		}
	}()
	f.ends()
	stop()
	<-fed
	res.Body.Close()

	res = f.get("time=1h")
	f.lb.taps.close()
	if f.tap.running.Load() {
		t.Error("the capture goes on when the data plane is closed")
	}
	if _, err := frames(t, res.Body); err != 0 {
		t.Errorf("the end of what was captured then: %v lost", err)
	}
	if text := f.refusal(""); text != ErrNotRunning.Error() {
		t.Errorf("when it does not run: %s", text)
	}
}
