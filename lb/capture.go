package lb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"anycastle/bpf"
	"anycastle/internal/pcapng"
)

const (
	// captureFlush is how long what was captured waits for more before it is sent.
	captureFlush = 250 * time.Millisecond
	// captureGrace is how long the reader of a capture may take for the end of it.
	captureGrace = 5 * time.Second
	// captureBuffer is what is sent at once while much is captured.
	captureBuffer = 64 << 10
)

// capturer is the part of the data plane that captures.
type capturer interface {
	Capture(ctx context.Context, filter bpf.CaptureFilter, report func(bpf.Captured)) error
	CaptureLost() (uint64, error)
}

// captures lends the data plane to one capture at a time while Run runs.
type captures struct {
	mu    sync.Mutex
	plane capturer // nil: Run does not run
	stop  func()   // the capture that runs
	ended chan struct{}
}

func (c *captures) open(plane capturer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plane = plane
}

// close stops the capture that runs, and waits for its end.
func (c *captures) close() {
	c.mu.Lock()
	c.plane = nil
	stop, ended := c.stop, c.ended
	c.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
}

// begin lends the data plane until end is called. stop has that happen soon.
func (c *captures) begin(stop func()) (plane capturer, end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.plane == nil:
		return nil, nil, ErrNotRunning
	case c.stop != nil:
		return nil, nil, bpf.ErrCapturing
	}
	ended := make(chan struct{})
	c.stop, c.ended = stop, ended
	return c.plane, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stop = nil
		close(ended)
	}, nil
}

// serveCapture answers a CaptureQuery with pcapng, while it is captured. The capture ends with the connection. What cannot be
// done is told with status 422.
func (l *LB) serveCapture(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	q, err := parseCaptureQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	plane, end, err := l.taps.begin(stop)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	defer end()
	n, err := l.names(ctx)
	var selected selection
	if err == nil {
		selected, err = n.selection(q)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	rc := http.NewResponseController(w)
	if err := rc.SetWriteDeadline(time.Time{}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-pcapng")
	ctx, cancel := context.WithTimeout(ctx, q.Time)
	defer cancel()
	unbound := context.AfterFunc(ctx, func() { _ = rc.SetWriteDeadline(time.Now().Add(captureGrace)) })
	defer unbound()
	l.log.Info("capture begins", "of", q.String(), "packets", q.Count, "time", q.Time)
	rec := &recording{lb: l, plane: plane, query: q, selected: selected, stop: cancel, names: n, ids: map[captureSide]int{}}
	err = rec.run(ctx, w, rc.Flush)
	cause := "done"
	if rec.gone != nil {
		cause = rec.gone.Error()
	}
	l.log.Info("capture ended", "packets", rec.packets, "lost", rec.lost, "cause", cause)
	if err != nil {
		l.log.Error("capture", "err", err)
		panic(http.ErrAbortHandler) // the reader is told that this is not the end
	}
}

// recording is a capture that runs.
type recording struct {
	lb       *LB
	plane    capturer
	query    CaptureQuery
	selected selection
	stop     func()

	mu      sync.Mutex
	out     *pcapng.Writer
	send    func() error // what was flushed
	names   names
	ids     map[captureSide]int
	counts  []uint64 // frames, by id
	packets int
	gone    error // of writing to who reads it

	start  time.Time
	before uint64        // lost by earlier captures
	lost   uint64        // by this one
	offset time.Duration // of the clock from that of the program; 0: not known yet
}

// captureSide is one interface of the file.
type captureSide struct {
	ifindex   int
	direction pcapng.Direction
}

// run captures until ctx is done or enough is captured.
func (r *recording) run(ctx context.Context, w io.Writer, send func() error) (err error) {
	out := bufio.NewWriterSize(w, captureBuffer)
	r.start, r.send = time.Now(), func() error { return errors.Join(out.Flush(), send()) }
	if r.before, err = r.plane.CaptureLost(); err != nil {
		return err
	}
	if err := r.begin(out); err != nil {
		return err
	}
	ticking, stopTicking := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { r.tick(ticking) })
	err = r.plane.Capture(ctx, r.selected.filter, r.report)
	stopTicking()
	wg.Wait()
	return errors.Join(err, r.flush(true))
}

// begin writes the head of the file: both sides of the uplinks, and statistics that say nothing yet.
func (r *recording) begin(w io.Writer) error {
	uplinks := r.lb.Uplinks()
	for i, u := range uplinks {
		link, err := net.InterfaceByName(u.Name)
		if err != nil {
			return fmt.Errorf("find %s: %w", u.Name, err)
		}
		for _, d := range []pcapng.Direction{pcapng.In, pcapng.Out} {
			if i > 0 || d == pcapng.Out {
				if _, err := r.add(captureSide{link.Index, d}, u.Name); err != nil {
					return err
				}
				continue
			}
			opts := pcapng.Options{Application: "anycastle lb", Filter: r.query.String(), Snap: r.query.Snap}
			if r.out, err = pcapng.NewWriter(w, opts, describeSide(u.Name, d)); err != nil {
				return err
			}
			r.ids[captureSide{link.Index, d}] = 0
			r.counts = append(r.counts, 0)
		}
	}
	if r.out == nil {
		return errors.New("the balancer has no uplink")
	}
	return r.flush(true)
}

func describeSide(name string, d pcapng.Direction) pcapng.Interface {
	if d == pcapng.In {
		return pcapng.Interface{Name: name + " in", Description: "frames as they came in by " + name}
	}
	return pcapng.Interface{Name: name + " out", Description: "frames as the balancer sent them by " + name}
}

func (r *recording) add(side captureSide, name string) (int, error) {
	id, err := r.out.AddInterface(describeSide(name, side.direction))
	if err != nil {
		return 0, err
	}
	r.ids[side] = id
	r.counts = append(r.counts, 0)
	return id, nil
}

// tick sends what there is and looks at the names again, until ctx is done.
func (r *recording) tick(ctx context.Context) {
	tick := time.NewTicker(captureFlush)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.flush(false); err != nil {
			r.stop() // and the end's own flush will say the same
			return
		}
		r.rename(ctx)
	}
}

// rename takes over what indexes mean now. A loop that is busy is asked again.
func (r *recording) rename(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, captureFlush)
	defer cancel()
	if n, err := r.lb.names(ctx); err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.names = n
	}
}

// flush sends what was written, and statistics if they have changed or always is set. What was lost is told with the
// first interface: the program counts it for all of them.
func (r *recording) flush(always bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := r.plane.CaptureLost()
	if err != nil {
		return err
	}
	if lost := now - r.before; lost != r.lost || always {
		r.lost = lost
		for id, n := range r.counts {
			s := pcapng.Stats{Start: r.start, Until: time.Now(), Captured: n}
			if id == 0 {
				s.Dropped = lost
			}
			r.leave(r.out.WriteStats(id, s))
		}
	}
	r.leave(errors.Join(r.out.Flush(), r.send()))
	return nil
}

// leave ends the capture if who reads it has gone.
func (r *recording) leave(err error) {
	if err != nil && r.gone == nil {
		r.gone = err
		r.stop()
	}
}

// report takes a packet from the program.
func (r *recording) report(c bpf.Captured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// what an earlier capture has left in the ring is older than this one
	if r.gone != nil || r.packets >= r.query.Count || c.At.Before(r.start) || !r.selected.selects(&c.Trace, r.names) {
		return
	}
	r.leave(r.write(c))
	if r.packets++; r.packets >= r.query.Count {
		r.stop()
	}
}

// write adds a packet as it came in, and as it left if it did. One offset of the clocks counts for all: what lies between
// two packets is what the program saw.
func (r *recording) write(c bpf.Captured) error {
	t := &c.Trace
	if r.offset == 0 {
		r.offset = time.Duration(c.At.UnixNano() - int64(t.At))
	}
	f := pcapng.Frame{At: time.Unix(0, int64(t.At)+int64(r.offset)), Data: c.In, Length: int(t.InLen), Direction: pcapng.In,
		Comment: r.names.fate(t), Verdict: t.Verdict}
	if err := r.frame(captureSide{int(t.Ifindex), pcapng.In}, f); err != nil {
		return err
	}
	if v := bpf.Verdict(t.Verdict); v != bpf.TX && v != bpf.Redirect {
		return nil
	}
	by := int(t.Ifindex)
	if to := r.names.reals[uint32(t.Real)].ifindex; t.Real != 0 && to != 0 {
		by = to
	}
	f.Data, f.Length, f.Direction = c.Out, int(t.OutLen), pcapng.Out
	return r.frame(captureSide{by, pcapng.Out}, f)
}

func (r *recording) frame(side captureSide, f pcapng.Frame) error {
	id, ok := r.ids[side]
	if !ok {
		name := fmt.Sprintf("interface %d", side.ifindex)
		if link, err := net.InterfaceByIndex(side.ifindex); err == nil {
			name = link.Name
		}
		var err error
		if id, err = r.add(side, name); err != nil {
			return err
		}
	}
	f.Interface = id
	r.counts[id]++
	return r.out.WriteFrame(f)
}
