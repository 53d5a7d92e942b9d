package lbbench

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// farmWeights is probed often and has the shortest transition: a weight that changes is a transition, and the next waits.
const farmWeights = "      transition: {time: 1s}\n"

// TestAgentCheckMovesWeights has agents of HAProxy's protocol say what they may.
func TestAgentCheckMovesWeights(t *testing.T) {
	t.Parallel()
	c := newControl(t, 1, 4, farmWeights+"      weights: agent-check\n      probes:\n        - {type: tcp, interval: 200ms, timeout: 200ms, fail: 5}\n"+
		"        - {type: agent-check, port: 9707, interval: 200ms, timeout: 200ms}\n")
	says := map[string]*speaker{}
	for i := range 4 {
		name := fmt.Sprintf("mx%d", i+1)
		says[name] = c.speak(name, "up ready 100%")
		c.listen(name)
	}
	w := c.weigh(map[string]int{"mx1": 1, "mx2": 2, "mx3": 1, "mx4": 1})
	for _, step := range []struct {
		real, line, state, why string
		percent                float64
	}{
		{"mx1", "50%", "active", "", 50},
		{"mx2", "up 150%", "active", "", 150},
		{"mx3", "drain", "suspended", "drained: ", 0},
		{"mx3", "ready", "active", "", 100},
		{"mx4", "down # the disk is full", "failed", "agent says down (the disk is full)", 0},
		{"mx4", "up 100%", "active", "", 100},
		{"mx1", "maint", "suspended", "order suspend by agent-check", 0},
	} {
		says[step.real].set(step.line)
		w.expect(step.real, step.percent, step.state, step.why)
	}
}

// TestLoadMovesWeights has one of three reals be busy.
func TestLoadMovesWeights(t *testing.T) {
	t.Parallel()
	c := newControl(t, 1, 3, farmWeights+"      weights: agent\n"+farmIPIP)
	loads := map[string]*os.File{}
	for i := range 3 {
		name := fmt.Sprintf("mx%d", i+1)
		loads[name] = c.loaded(name)
	}
	w := c.weigh(map[string]int{"mx1": 1, "mx2": 1, "mx3": 2})
	for _, step := range []struct {
		real string
		load float64
		then float64 // percent
	}{{"mx1", 0.5, 50}, {"mx3", 0.22, 80}, {"mx1", 9, 10}, {"mx1", 0, 100}} {
		setLoad(t, loads[step.real], step.load)
		w.expect(step.real, step.then, "active", "")
	}
}

// weights follows the table of lb1 while weights change.
type weights struct {
	*control
	base    map[string]float64 // of each real, as the balancer shows it at first
	percent map[string]float64
	table   slotTable
}

// weigh starts lb1 with weights in its config.
func (c *control) weigh(config map[string]int) *weights {
	c.t.Helper()
	var states []string
	w := &weights{control: c, base: map[string]float64{}, percent: map[string]float64{}}
	for name, weight := range config {
		entry := fmt.Sprintf("address: %v", c.addr[name])
		c.nodes["lb1"] = strings.Replace(c.nodes["lb1"], entry+"}", fmt.Sprintf("%s, weight: %d}", entry, weight), 1)
		states = append(states, name+" active")
		w.percent[name] = 100
	}
	c.up("lb1")
	c.expectStates([]string{"lb1"}, states...)
	for name, weight := range config {
		w.base[name] = c.real("lb1", name).PrimaryWeight
		if off := w.base[name]/float64(weight) - 1; math.Abs(off) > 0.25 {
			c.t.Fatalf("%s begins with weight %v, where its config says %d", name, w.base[name], weight)
		}
	}
	w.table = c.table("lb1")
	w.expectShares()
	return w
}

func (w *weights) sum() (sum float64) {
	for name, p := range w.percent {
		sum += w.base[name] * p / 100
	}
	return sum
}

// expect waits until a real has a percentage of its weight and everything is still, and looks at what has moved meanwhile: no
// more slots than the weight was of the sum of all.
func (w *weights) expect(name string, percent float64, state, why string) {
	w.t.Helper()
	before := w.sum()
	delta := math.Abs(percent-w.percent[name]) / 100 * w.base[name]
	w.percent[name] = percent
	what := fmt.Sprintf("%s %s with %v %% of its weight", name, state, percent)
	eventually(w.t, what, func() bool {
		is := w.real("lb1", name)
		moving := show[struct {
			Moving int `json:"slots_in_transition"`
		}](w.control, "lb1", "farm")
		return is.State == state && strings.Contains(is.Why, why) && math.Abs(is.PrimaryWeight-w.base[name]*percent/100) < 0.002 &&
			is.PrimaryWeight == is.SecondaryWeight && len(moving) == 1 && moving[0].Moving == 0
	})
	table := w.control.table("lb1")
	moved, bound := table.moved(w.table), delta/max(before, w.sum())
	if moved > bound+0.03 || moved == 0 {
		w.t.Errorf("%s: %.4f of the slots moved, and %.4f of the weights", what, moved, bound)
	}
	if share := math.Abs(table.share(w.addr[name]) - w.table.share(w.addr[name])); moved != share {
		w.t.Errorf("%s: %.4f of the slots moved, and %.4f to it or from it", what, moved, share)
	}
	w.t.Logf("%s: %.4f of the slots moved, and %.4f of the weights", what, moved, bound)
	w.table = table
	w.expectShares()
}

// expectShares compares shares with weights.
func (w *weights) expectShares() {
	w.t.Helper()
	sum := w.sum()
	for name, percent := range w.percent {
		r := w.real("lb1", name)
		want := w.base[name] * percent / 100 / sum
		if got := w.table.share(w.addr[name]); math.Abs(got-want) > 0.03*want || got != r.Share {
			w.t.Errorf("%s has %.4f of the slots, and says %.4f; by its weight it is due %.4f", name, got, r.Share, want)
		}
	}
}

// share is the part of the slots whose new flows go to a real.
func (t slotTable) share(real netip.Addr) float64 {
	held := 0
	for _, s := range t {
		if s.primary == real {
			held++
		}
	}
	return float64(held) / float64(len(t))
}

// speaker is an agent that says one line to whoever connects.
type speaker struct {
	mu   sync.Mutex
	line string
}

func (s *speaker) set(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line = line
}

func (s *speaker) say(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.WriteString(conn, s.line+"\n") // who does not listen has not heard it
	_ = conn.Close()
}

// speak starts an agent on a host.
func (c *control) speak(host, line string) *speaker {
	c.t.Helper()
	s := &speaker{line: line}
	var ln net.Listener
	c.hosts[host].Do(func() (err error) {
		ln, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp4", ":9707")
		return err
	})
	var speaking sync.WaitGroup
	speaking.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.say(conn)
		}
	})
	c.t.Cleanup(func() { ln.Close(); speaking.Wait() })
	return s
}

// loaded starts a real that has one processor and the load that is in a file.
func (c *control) loaded(host string) *os.File {
	c.t.Helper()
	c.servers[host] = c.serve(host)
	dir, pins := filepath.Join(c.dir, host), filepath.Join(c.pins, host)
	check(c.t, os.MkdirAll(dir, 0o700))
	check(c.t, os.Mkdir(pins, 0o700))
	check(c.t, os.WriteFile(dir+"/node.yml", []byte(c.nodes[host]), 0o600))
	check(c.t, os.WriteFile(dir+"/online", []byte("0\n"), 0o600))
	load, err := os.Create(dir + "/loadavg")
	check(c.t, err)
	c.t.Cleanup(func() { load.Close() })
	setLoad(c.t, load, 0)
	const enter = `mount --bind "$1" /sys/fs/bpf && mount --bind "$2/loadavg" /proc/loadavg &&
		mount --bind "$2/online" /sys/devices/system/cpu/online && exec "$0" real --config "$2/node.yml" --run-dir "$2"`
	p := c.prepare(host, "sh", "-c", enter, binary, pins, dir)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	c.start(p)
	return load
}

// setLoad writes as much as before over it: a reader must not find the file empty.
func setLoad(t testing.TB, to *os.File, load float64) {
	t.Helper()
	_, err := fmt.Fprintf(io.NewOffsetWriter(to, 0), "%.2f 0.00 0.00 1/99 4242\n", load)
	check(t, err)
}
