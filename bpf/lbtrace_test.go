package bpf

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestExplained holds what is told of packets to all of its fields.
func TestExplained(t *testing.T) {
	r := newRig(t)
	slot4, slot6 := uint32(hash4()%Slots), uint32(hash6()%Slots)
	early := cutFlows()[0]
	for _, tc := range []struct {
		name    string
		slot    Slot
		vip     func(v *VIP)
		prepare func(t *testing.T, r *rig)
		frame   made
		want    Trace
	}{
		{name: "sent", frame: tcp, want: Trace{Vip: vipIndex + 1, Slot: slot4, Primary: 1, Secondary: 1, Real: 1, Verdict: xdpTX}},
		{name: "sent in v6", frame: tcp6, want: Trace{Vip: vip6Index + 1, Slot: slot6, Primary: 1, Secondary: 1, Real: 1, Verdict: xdpTX}},
		{name: "sent by another link", slot: steady(ipip4b), frame: tcp,
			want: Trace{Vip: vipIndex + 1, Slot: slot4, Primary: 2, Secondary: 2, Real: 2, Verdict: xdpRedirect}},
		{name: "second chance", slot: moving(gue4, gue4b), vip: secondChance, frame: tcp,
			want: Trace{Vip: vipIndex + 1, Slot: slot4, Primary: 4, Secondary: 5, Real: 4, Second: 5, Verdict: xdpTX}},
		{name: "second chance of a syn", slot: moving(gue4, gue4b), vip: secondChance, frame: syn,
			want: Trace{Vip: vipIndex + 1, Slot: slot4, Primary: 4, Secondary: 5, Real: 4, Verdict: xdpTX}},
		{name: "tracked", slot: moving(ipip4, ipip6), frame: tcp,
			want: Trace{Vip: vipIndex + 1, Slot: slot4, Primary: 1, Secondary: 3, Real: 3, Verdict: xdpTX}},
		{name: "stored", slot: moving(ipip4, ipip6), prepare: func(t *testing.T, r *rig) { put(t, r.StoreFlow(hashOfFrame(tcp()), l2.index)) }, frame: tcp,
			want: Trace{Vip: vipIndex + 1, Slot: slot4, Primary: 1, Secondary: 3, Real: 8, Verdict: xdpTX}},
		{name: "error about a flow", slot: moving(gue6, gue6b), vip: secondChance, frame: about(t, response6),
			want: Trace{Vip: vip6Index + 1, Slot: slot6, Primary: 6, Secondary: 7, Real: 6, Second: 7, Verdict: xdpTX}},
		{name: "later fragment", slot: steady(gue4), prepare: early.begun, frame: early.piece(t, 1), want: Trace{Vip: vipIndex + 1, Slot: slot4, Real: 4, Verdict: xdpTX}},
		{name: "too big", frame: with(tcp, payload(1461)), want: Trace{Vip: vipIndex + 1, Slot: slot4, Primary: 1, Secondary: 1, Verdict: xdpTX}},
		{name: "echo", frame: echo4, want: Trace{Verdict: xdpTX}},
		{name: "elsewhere", frame: elsewhere, want: Trace{Verdict: xdpPass}},
		{name: "early fragment", frame: early.piece(t, 1), want: Trace{Verdict: xdpDrop, Reason: Reasons()["fragment_early"]}},
		{name: "last hop", frame: with(tcp, ttl(1)),
			want: Trace{Vip: vipIndex + 1, Slot: slot4, Primary: 1, Secondary: 1, Real: 1, Verdict: xdpDrop, Reason: Reasons()["ttl_expired"]}},
		{name: "nobody", slot: Slot{Primary: noReal}, frame: syn, prepare: func(t *testing.T, r *rig) { r.setVIPs(t, Slot{}, func(*VIP) {}) },
			want: Trace{Vip: vipIndex + 1, Slot: slot4, Verdict: xdpDrop, Reason: Reasons()["no_real"]}},
		{name: "no table", vip: func(v *VIP) { v.Farm = rigFarms - 1 }, frame: tcp,
			want: Trace{Vip: vipIndex + 1, Slot: slot4, Verdict: xdpDrop, Reason: Reasons()["no_table"]}},
	} {
		r.reset(t)
		if tc.slot == (Slot{}) {
			tc.slot = steady(ipip4)
		}
		if tc.vip == nil {
			tc.vip = func(*VIP) {}
		}
		r.setVIPs(t, tc.slot, tc.vip)
		if tc.prepare != nil {
			tc.prepare(t, r)
		}
		got, _, err := r.Explain(tc.frame().Bytes(t), ingress)
		put(t, err)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// TestOnlyTheTokenExplains has frames come with metadata of others: they are sent and counted.
func TestOnlyTheTokenExplains(t *testing.T) {
	r := newRig(t)
	wrong := slices.Clone(r.token[:])
	wrong[7]++
	for name, metadata := range map[string][]byte{"another token": wrong, "half of it": r.token[:4], "behind others": append(make([]byte, 8), r.token[:]...)} {
		r.forget(t)
		in := append(slices.Clone(metadata), tcp().Bytes(t)...)
		_, err := r.prog.Run(&ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+frameRoom),
			Context: xdpMetadata{Data: uint32(len(metadata)), DataEnd: uint32(len(in))}})
		put(t, err)
		if diff := cmp.Diff(sent(tcp().Bytes(t)), r.moved(t), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// capturing is a rig with a reader of what it captures.
type capturing struct {
	*rig
	ring *ringbuf.Reader
}

func newCapturing(t *testing.T) capturing {
	t.Helper()
	c := capturing{rig: newRig(t)}
	var err error
	c.ring, err = ringbuf.NewReader(c.objs.Captured)
	put(t, err)
	t.Cleanup(func() { c.ring.Close() })
	return c
}

// capture sets a filter that lasts.
func (c capturing) capture(t *testing.T, f CaptureFilter) {
	t.Helper()
	f.Until = math.MaxUint64
	put(t, c.objs.Capture.Set(f))
}

// TestCaptureOfEverything runs cases of other tables while all is captured: they come out the same, and each is captured
// once, as it went in and as it came out. Being explained, it is not.
func TestCaptureOfEverything(t *testing.T) {
	c := newCapturing(t)
	c.capture(t, CaptureFilter{CapLen: MaxCapLen})
	echo := lbCase{name: "echo", frame: echo6, verdict: xdpTX, want: echoReply(echo6), moves: answered(Replies{Echo: 1})}
	tooBig := lbCase{name: "too big", frame: with(tcp6, payload(1441)), verdict: xdpTX, want: tooBigAnswer(t, with(tcp6, payload(1441)), 1480),
		moves: answered(Replies{TooBig: 1})}
	early := lbCase{name: "early fragment", frame: cutFlows()[0].piece(t, 1), verdict: xdpDrop, reason: "fragment_early", held: 1}
	for _, tc := range slices.Concat(lbCases, lb6Cases, []lbCase{echo, tooBig, early}) {
		t.Run(tc.name, func(t *testing.T) {
			drain(t, c.ring)
			begin := monotonic()
			in, out := c.run(t, tc)
			if tc.verdict == xdpDrop {
				out = nil
			}
			all := drain(t, c.ring)
			if len(all) != 1 {
				t.Fatalf("captured %d times", len(all))
			}
			got := all[0].Trace
			if diff := pkttest.Diff(in, all[0].In); diff != "" {
				t.Errorf("in: %s", diff)
			}
			if diff := pkttest.Diff(out, all[0].Out); diff != "" {
				t.Errorf("out: %s", diff)
			}
			if got.Verdict != tc.verdict || got.Reason != Reasons()[tc.reason] || got.Ifindex != ingress || got.At < uint64(begin) || got.At > uint64(monotonic()) {
				t.Errorf("from %d: %+v", begin, got)
			}
			if int(got.InLen) != len(in) || int(got.OutLen) != len(out) {
				t.Errorf("lengths %d and %d, want %d and %d", got.InLen, got.OutLen, len(in), len(out))
			}
		})
	}
}

func TestCaptureFilters(t *testing.T) {
	c := newCapturing(t)
	reason := Reasons()
	echo, dead := echo4().Bytes(t), with(tcp, ttl(1))().Bytes(t)
	agent, err := gueCase(c, t)
	put(t, err)
	for _, tc := range []struct {
		name   string
		filter CaptureFilter
		frame  []byte
		want   int
	}{
		{"vip", CaptureFilter{Vip: vipIndex + 1}, agent, 1},
		{"vip of a drop", CaptureFilter{Vip: vipIndex + 1}, dead, 1},
		{"vip of an answer", CaptureFilter{Vip: vipIndex + 1}, with(tcp, payload(1461))().Bytes(t), 1},
		{"another vip", CaptureFilter{Vip: vip6Index + 1}, agent, 0},
		{"vip of what has none", CaptureFilter{Vip: vipIndex + 1}, echo, 0},
		{"real", CaptureFilter{Real: uint32(gue4.index)}, agent, 1},
		{"second hop", CaptureFilter{Real: uint32(gue4b.index)}, agent, 1},
		{"another real", CaptureFilter{Real: mx1Index}, agent, 0},
		{"real of what has none", CaptureFilter{Real: mx1Index}, echo, 0},
		{"reason", CaptureFilter{Reason: reason["ttl_expired"]}, dead, 1},
		{"another reason", CaptureFilter{Reason: reason["no_real"]}, dead, 0},
		{"reason of what is sent", CaptureFilter{Reason: reason["ttl_expired"]}, agent, 0},
		{"any reason", CaptureFilter{Reason: AnyReason}, dead, 1},
		{"any reason of what is sent", CaptureFilter{Reason: AnyReason}, agent, 0},
		{"vip, real and reason", CaptureFilter{Vip: vipIndex + 1, Real: uint32(gue4.index), Reason: reason["ttl_expired"]}, dead, 1},
		{"vip and reason, another real", CaptureFilter{Vip: vipIndex + 1, Real: mx1Index, Reason: reason["ttl_expired"]}, dead, 0},
		{"real and reason, another vip", CaptureFilter{Vip: vip6Index + 1, Real: uint32(gue4.index), Reason: AnyReason}, dead, 0},
	} {
		tc.filter.CapLen = MaxCapLen
		c.capture(t, tc.filter)
		_, _, err := c.prog.Test(tc.frame)
		put(t, err)
		if got := drain(t, c.ring); len(got) != tc.want {
			t.Errorf("%s: %d captured, want %d", tc.name, len(got), tc.want)
		}
	}
	// a process that has died leaves a filter whose time is over
	put(t, c.objs.Capture.Set(CaptureFilter{Until: uint64(monotonic()) - 1, CapLen: MaxCapLen}))
	_, _, err = c.prog.Test(agent)
	put(t, err)
	if got := drain(t, c.ring); len(got) != 0 {
		t.Errorf("%d captured when the time is over", len(got))
	}
}

// gueCase has the rig's VIPs be in transition between agents, and gives a packet with a second hop.
func gueCase(c capturing, t *testing.T) ([]byte, error) {
	c.setVIPs(t, moving(gue4, gue4b), secondChance)
	in := tcp().Bytes(t)
	trace, _, err := c.Explain(in, ingress)
	if err == nil && trace.Second != gue4b.index {
		err = errors.New("the packet has no second hop")
	}
	return in, err
}

// TestCaptureLength stores no more than asked for, of either frame.
func TestCaptureLength(t *testing.T) {
	c := newCapturing(t)
	c.setVIPs(t, steady(l2), func(*VIP) {})
	wide, prepare := l2.as(func(x *target) { x.mtu = 4000 })
	prepare(t, c.rig)
	early := cutFlows()[1].piece(t, 1)
	for _, tc := range []struct {
		name  string
		frame made
		want  made // nil: dropped
	}{
		{"small", tcp, wide.gets(tcp)},
		{"large", with(tcp, payload(1400)), wide.gets(with(tcp, payload(1400)))},
		{"larger than any capture", with(tcp, payload(2500)), wide.gets(with(tcp, payload(2500)))},
		{"held", early, nil},
	} {
		for _, limit := range []uint32{1, 14, 64, 1000, MaxCapLen} {
			in, out := tc.frame().Bytes(t), []byte{}
			if tc.want != nil {
				out = tc.want().Bytes(t)
			}
			c.capture(t, CaptureFilter{CapLen: limit})
			_, _, err := c.prog.Test(in)
			put(t, err)
			all := drain(t, c.ring)
			if len(all) != 1 {
				t.Fatalf("%s, %d bytes: captured %d times", tc.name, limit, len(all))
			}
			got := all[0]
			if int(got.Trace.InLen) != len(in) || int(got.Trace.OutLen) != len(out) {
				t.Errorf("%s, %d bytes: lengths %d and %d, want %d and %d", tc.name, limit, got.Trace.InLen, got.Trace.OutLen, len(in), len(out))
			}
			in, out = in[:min(len(in), int(limit))], out[:min(len(out), int(limit))]
			if !slices.Equal(got.In, in) || !slices.Equal(got.Out, out) {
				t.Errorf("%s, %d bytes: stored %d and %d, want %d and %d, or others", tc.name, limit, len(got.In), len(got.Out), len(in), len(out))
			}
			if held := c.takeHeld(t); tc.want == nil && (len(held) != 1 || len(held[0].In) != int(got.Trace.InLen)) {
				t.Errorf("%s, %d bytes: held %d frames", tc.name, limit, len(held))
			}
		}
	}
}

// TestCaptureLost fills the ring, which nobody reads.
func TestCaptureLost(t *testing.T) {
	c := newCapturing(t)
	c.capture(t, CaptureFilter{CapLen: MaxCapLen})
	in := with(tcp, payload(1400))().Bytes(t)
	const most = 10_000
	lost, sent := uint64(0), uint64(0)
	for lost < 3 && sent < most {
		verdict, _, err := c.prog.Test(in)
		put(t, err)
		if verdict != xdpTX {
			t.Fatalf("verdict %v", Verdict(verdict))
		}
		sent++
		lost, err = c.CaptureLost()
		put(t, err)
	}
	if got := uint64(len(drain(t, c.ring))); lost != 3 || got != sent-lost {
		t.Errorf("of %d packets %d were captured and %d lost", sent, got, lost)
	}
	if counts := c.counts(t)[vipIndex]; counts.Packets != sent {
		t.Errorf("%d packets were counted, %d sent", counts.Packets, sent)
	}
	_, _, err := c.prog.Test(in)
	put(t, err)
	if got := len(drain(t, c.ring)); got != 1 {
		t.Errorf("captured %d times once there was room", got)
	}
}

// TestCapture runs one and tries a second. When it ends nothing is captured any more.
func TestCapture(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, done := make(chan Captured), make(chan error, 1)
	in := tcp().Bytes(t)
	go func() {
		done <- r.Capture(ctx, CaptureFilter{Vip: vipIndex + 1, CapLen: 20}, func(c Captured) {
			c.In, c.Out = slices.Clone(c.In), slices.Clone(c.Out)
			select {
			case got <- c:
			case <-ctx.Done():
			}
		})
	}()
	for first := true; first; { // until the filter is set
		_, _, err := r.prog.Test(in)
		put(t, err)
		select {
		case c := <-got:
			first = false
			if !slices.Equal(c.In, in[:20]) || len(c.Out) != 20 || c.Trace.Vip != vipIndex+1 {
				t.Errorf("captured %+v", c)
			}
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		default:
		}
	}
	if err := r.Capture(ctx, CaptureFilter{}, func(Captured) {}); !errors.Is(err, ErrCapturing) {
		t.Errorf("a second capture: %v", err)
	}
	cancel()
	put(t, <-done)
	var left CaptureFilter
	put(t, r.objs.Capture.Get(&left))
	if left != (CaptureFilter{}) {
		t.Errorf("left is %+v", left)
	}
}
