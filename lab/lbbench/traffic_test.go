package lbbench

import (
	"bytes"
	wire "encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// traffic is connections through the VIP that talk all the time: each sends a numbered message, expects it back, and sends
// the next a period later.
type traffic struct {
	s      *site
	period time.Duration
	wg     sync.WaitGroup

	mu   sync.Mutex
	list []*talker
}

// talker is one connection.
type talker struct {
	number  uint32
	conn    net.Conn
	real    string        // that greeted it
	quit    chan struct{} // closed: end it as SMTP clients do
	ended   chan struct{} // closed when it has ended, of itself or broken
	echoes  atomic.Int64
	longest atomic.Int64 // that it waited for an echo, in ns
	broken  error        // once ended
}

// patient is how long a connection may be silent: TCP repeats a segment for about as long before it looks broken to a user.
const patient = 20 * time.Second

func newTraffic(s *site, period time.Duration) *traffic {
	f := &traffic{s: s, period: period}
	s.t.Cleanup(func() { f.end(f.all()); f.wg.Wait() })
	return f
}

// open opens n connections, evenly over that time, and gives a function that waits until they are open. One that cannot be
// opened is broken.
func (f *traffic) open(n int, over time.Duration) (wait func()) {
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.s.onThreads(connectors, func(int) error {
			d := net.Dialer{Timeout: patient}
			tick := time.NewTicker(max(over*connectors/time.Duration(n), time.Microsecond))
			defer tick.Stop()
			for left.Add(-1) >= 0 {
				f.openOne(&d)
				<-tick.C
			}
			return nil
		})
	}()
	return func() { <-done }
}

func (f *traffic) openOne(d *net.Dialer) {
	k := &talker{quit: make(chan struct{}), ended: make(chan struct{})}
	var greeting byte
	k.conn, greeting, k.broken = greeted(d, vipTarget)
	k.real = "mx" + string(greeting)
	f.mu.Lock()
	k.number = uint32(len(f.list))
	f.list = append(f.list, k)
	f.mu.Unlock()
	if k.broken != nil {
		k.broken = fmt.Errorf("connect: %w", k.broken)
		close(k.ended)
		return
	}
	f.wg.Go(func() {
		defer close(k.ended)
		k.broken = errors.Join(k.talk(f.period), k.conn.Close())
	})
}

// talk sends and receives until the talker is to quit or something is wrong.
func (k *talker) talk(period time.Duration) error {
	timer := time.NewTimer(rand.N(period))
	defer timer.Stop()
	for seq := uint32(0); ; seq++ {
		select {
		case <-k.quit:
			return k.leave()
		case <-timer.C:
		}
		if err := k.exchange(seq); err != nil {
			return fmt.Errorf("message %d: %w", seq, err)
		}
		timer.Reset(period)
	}
}

func (k *talker) exchange(seq uint32) error {
	var message, echo [8]byte
	wire.BigEndian.PutUint32(message[:], k.number)
	wire.BigEndian.PutUint32(message[4:], seq)
	began := time.Now()
	if err := k.conn.SetDeadline(began.Add(patient)); err != nil {
		return err
	}
	if _, err := k.conn.Write(message[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(k.conn, echo[:]); err != nil {
		return err
	}
	if !bytes.Equal(message[:], echo[:]) {
		return fmt.Errorf("sent %x and received %x", message, echo)
	}
	k.longest.Store(max(k.longest.Load(), int64(time.Since(began))))
	k.echoes.Add(1)
	return nil
}

// leave closes the client's side and expects the server to close its own.
func (k *talker) leave() error {
	if err := k.conn.SetDeadline(time.Now().Add(patient)); err != nil {
		return err
	}
	if err := k.conn.(*net.TCPConn).CloseWrite(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if n, err := k.conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("close: %d bytes more, %w", n, err)
	}
	return nil
}

func (k *talker) over() bool {
	select {
	case <-k.ended:
		return true
	default:
		return false
	}
}

// all gives the connections of now, in the order in which they were opened.
func (f *traffic) all() []*talker {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*talker(nil), f.list...)
}

// on gives those of a real.
func (f *traffic) on(real string) (list []*talker) {
	for _, k := range f.all() {
		if k.real == real {
			list = append(list, k)
		}
	}
	return list
}

// rounds waits until every connection of now has had so many messages more echoed, or has ended.
func (f *traffic) rounds(n int64) {
	f.s.t.Helper()
	waiting := map[*talker]int64{}
	for _, k := range f.all() {
		waiting[k] = k.echoes.Load() + n + 1 // the one that is on its way now does not count
	}
	eventually(f.s.t, "messages are echoed", func() bool {
		for k, want := range waiting {
			if k.over() || k.echoes.Load() >= want {
				delete(waiting, k)
			}
		}
		return len(waiting) == 0
	})
}

// end closes these connections and waits for it.
func (f *traffic) end(list []*talker) {
	for _, k := range list {
		select {
		case <-k.quit:
		default:
			close(k.quit)
		}
	}
	for _, k := range list {
		<-k.ended
	}
}

// brokenOf gives those of the connections that broke.
func brokenOf(list []*talker) (some []*talker) {
	for _, k := range list {
		if k.over() && k.broken != nil {
			some = append(some, k)
		}
	}
	return some
}

// longestWait is that of any connection for an echo.
func longestWait(list []*talker) (longest time.Duration) {
	for _, k := range list {
		longest = max(longest, time.Duration(k.longest.Load()))
	}
	return longest
}
