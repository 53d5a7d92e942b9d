package bpf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Verdict is what the program said of a packet.
type Verdict uint32

// The verdicts of XDP that the programs give.
const (
	Drop     Verdict = 1
	Pass     Verdict = 2
	TX       Verdict = 3 // out by the interface it came in by
	Redirect Verdict = 4 // out by the interface of the real
)

// String gives the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Drop:
		return "drop"
	case Pass:
		return "pass"
	case TX:
		return "tx"
	case Redirect:
		return "redirect"
	}
	return fmt.Sprintf("verdict %d", uint32(v))
}

// xdpMetadata is struct xdp_md: what a test run is told of a packet.
type xdpMetadata struct {
	Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32
}

// frameRoom is what a frame may grow by.
const frameRoom = 128

// Explain runs the loaded program on a frame as if it had come in by an interface that the program is on, against the
// live maps, and changes nothing: no counter, no flow. It gives what became of the frame, and the frame as it would have
// left.
func (lb *LB) Explain(frame []byte, ifindex int) (Trace, []byte, error) {
	lb.explaining.Lock()
	defer lb.explaining.Unlock()
	in := append(lb.token[:len(lb.token):len(lb.token)], frame...)
	opts := ebpf.RunOptions{
		Data: in, DataOut: make([]byte, len(in)+frameRoom), Repeat: 1,
		Context: xdpMetadata{Data: uint32(len(lb.token)), DataEnd: uint32(len(in)), IngressIfindex: uint32(ifindex)},
	}
	if _, err := lb.prog.Run(&opts); err != nil {
		return Trace{}, nil, fmt.Errorf("run the program on the packet: %w", err)
	}
	var t Trace
	if err := lb.objs.Explained.Lookup(uint32(0), &t); err != nil {
		return Trace{}, nil, fmt.Errorf("read what became of the packet: %w", err)
	}
	return t, opts.DataOut[len(lb.token):], nil // the kernel gives the metadata back, too
}

// inject sends a frame through the program as if it had just come in, with all consequences.
func (lb *LB) inject(frame []byte, ifindex int) error {
	_, err := lb.prog.Run(&ebpf.RunOptions{
		Data: frame, Repeat: 1, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		Context: xdpMetadata{DataEnd: uint32(len(frame)), IngressIfindex: uint32(ifindex)},
	})
	if err != nil {
		return fmt.Errorf("send a held fragment: %w", err)
	}
	return nil
}

// How long a fragment that came before the first one of its packet waits for that, how often it is looked for, and how
// many wait. Within a network the first one is late by a few packets.
const (
	holdTime = 500 * time.Millisecond
	holdPoll = 2 * time.Millisecond
	holdMost = 512
)

type heldFrame struct {
	frame   []byte
	ifindex int
	until   time.Time
}

// RunHeld keeps fragments that come before the first one of their packet, and sends each through the program again
// once that has passed, until ctx is done. It must be called in the namespace of the interfaces that the program is on: on
// that thread it sends. One whose first does not come in time is gone; it was counted as
// fragment_early when it came.
func (lb *LB) RunHeld(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	arrived := make(chan heldFrame)
	done := make(chan error, 1)
	go func() {
		done <- readRing(ctx, lb.objs.Held, func(record []byte) {
			c, err := parseRecord(record)
			if err != nil {
				return // the program writes no such record
			}
			select {
			case arrived <- heldFrame{frame: c.In, ifindex: int(c.Trace.Ifindex), until: time.Now().Add(holdTime)}:
			case <-ctx.Done():
			}
		})
	}()
	err := lb.resend(ctx, arrived)
	cancel()
	return errors.Join(err, <-done)
}

func (lb *LB) resend(ctx context.Context, arrived <-chan heldFrame) error {
	var waiting []heldFrame
	tick := time.NewTicker(holdPoll)
	defer tick.Stop()
	for {
		ticks := tick.C
		if len(waiting) == 0 {
			ticks = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case h := <-arrived:
			if len(waiting) < holdMost {
				waiting = append(waiting, h)
			}
		case now := <-ticks:
			var err error
			if waiting, err = lb.sendReady(waiting, now); err != nil {
				return err
			}
		}
	}
}

// sendReady sends what can go, in the order in which it came, and gives the rest.
func (lb *LB) sendReady(waiting []heldFrame, now time.Time) (rest []heldFrame, err error) {
	for _, h := range waiting {
		t, _, err := lb.Explain(h.frame, h.ifindex)
		switch {
		case err != nil:
			return nil, err
		case Verdict(t.Verdict) != Drop:
			if err := lb.inject(h.frame, h.ifindex); err != nil {
				return nil, err
			}
		case now.Before(h.until):
			rest = append(rest, h)
		}
	}
	return rest, nil
}

// Captured is a packet that was asked for.
type Captured struct {
	Trace   Trace
	At      time.Time
	In, Out []byte // the frame as it came in, and as it left; Out is empty if it was dropped. Cut off at the CapLen asked for
}

// traceLen is the size of struct trace.
const traceLen = 48

func parseRecord(record []byte) (Captured, error) {
	var c Captured
	if len(record) < traceLen {
		return c, fmt.Errorf("a record of %d bytes", len(record))
	}
	if _, err := binary.Decode(record[:traceLen], binary.NativeEndian, &c.Trace); err != nil {
		return c, fmt.Errorf("read a record: %w", err)
	}
	in, out := int(c.Trace.InCap), int(c.Trace.OutCap)
	if len(record) < traceLen+in+out {
		return c, fmt.Errorf("a record of %d bytes with frames of %d and %d", len(record), in, out)
	}
	c.In = record[traceLen : traceLen+in]
	c.Out = record[traceLen+in : traceLen+in+out]
	return c, nil
}

// captureRenew is how often a capture is told to go on, and captureLease how long it does without.
const (
	captureRenew = time.Second
	captureLease = 3 * time.Second
)

// ErrCapturing says that somebody captures already: there is one filter.
var ErrCapturing = errors.New("another capture is running; wait for it to end, or stop it")

// Capture reports the packets that filter selects, until ctx is done. Its Until is ignored. report must not keep the
// slices that it is given. What the ring buffer had no room for is counted by CaptureLost.
func (lb *LB) Capture(ctx context.Context, filter CaptureFilter, report func(Captured)) error {
	if !lb.capturing.TryLock() {
		return ErrCapturing
	}
	defer lb.capturing.Unlock()
	filter.CapLen = min(max(filter.CapLen, 1), MaxCapLen)
	lease := func() error {
		filter.Until = uint64(monotonic() + captureLease)
		if err := lb.objs.Capture.Set(filter); err != nil {
			return fmt.Errorf("set the capture's filter: %w", err)
		}
		return nil
	}
	if err := lease(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- readRing(ctx, lb.objs.Captured, func(record []byte) { lb.report(record, report) }) }()
	err := renew(ctx, lease, done)
	cancel()
	return errors.Join(err, lb.objs.Capture.Set(CaptureFilter{}))
}

// renew calls lease until ctx is done or the reader has ended.
func renew(ctx context.Context, lease func() error, done <-chan error) error {
	tick := time.NewTicker(captureRenew)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return <-done
		case <-tick.C:
			if err := lease(); err != nil {
				return err
			}
		}
	}
}

func (lb *LB) report(record []byte, report func(Captured)) {
	c, err := parseRecord(record)
	if err != nil {
		return // the program writes no such record
	}
	c.At = time.Now().Add(time.Duration(c.Trace.At) - monotonic())
	report(c)
}

// monotonic is the clock of bpf_ktime_get_ns.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // there is no Linux without it
	}
	return time.Duration(ts.Nano())
}

// CaptureLost counts captured packets that the ring buffer had no room for.
func (lb *LB) CaptureLost() (uint64, error) { return sumCPUs(lb.objs.CaptureLost, 0) }
