package lbbench

import (
	"bytes"
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"

	"github.com/cilium/ebpf"
)

// siteKey is the secret of the balancers' mesh.
const siteKey = "0f6fb0b6cbb5a4a39ce3ae4db4c8e4a1"

// control is a site whose balancers share orders and states, and whose reals have agents.
type control struct {
	*site
	ca    *mtlstest.CA
	nodes map[string]string // the node file of each host

	servers map[string]*server // by real
}

// newControl makes node files for so many balancers and reals. farm holds the farm's keys beside its agent and reals.
func newControl(t testing.TB, lbs, reals int, farm string) *control {
	t.Helper()
	c := &control{site: newSite(t, lbs, reals), ca: mtlstest.NewCA(t), nodes: map[string]string{}, servers: map[string]*server{}}
	var names []string
	for i := range reals {
		name := fmt.Sprintf("mx%d", i+1)
		names = append(names, name)
		c.nodes[name] = nodeReal + "  agent:\n    tls: " + tlsKeys(c.ca.Host(t, name, []netip.Addr{c.addr[name]}))
	}
	for i := range lbs {
		name := fmt.Sprintf("lb%d", i+1)
		text := c.nodeLB(farm+"      agent: {}\n", names...)
		keys := "lb:\n  tls: " + tlsKeys(c.ca.Host(t, name, nil))
		if lbs > 1 {
			keys += fmt.Sprintf("  mesh: {name: %s, listen: \"%v:7946\", key: %q, join: [%s]}\n", name, c.addr[name], siteKey, c.others(name, lbs))
		}
		c.nodes[name] = strings.Replace(text, "lb:\n", keys, 1)
	}
	return c
}

func tlsKeys(f mtls.Files) string {
	return fmt.Sprintf("{cert: %s, key: %s, ca: %s}\n", f.Cert, f.Key, f.CA)
}

func (c *control) others(name string, lbs int) string {
	var list []string
	for i := range lbs {
		if other := fmt.Sprintf("lb%d", i+1); other != name {
			list = append(list, fmt.Sprintf("\"%v:7946\"", c.addr[other]))
		}
	}
	return strings.Join(list, ", ")
}

// up starts hosts by their node files.
func (c *control) up(hosts ...string) {
	c.t.Helper()
	for _, h := range hosts {
		role := "lb"
		if strings.HasPrefix(h, "mx") {
			role = "real"
		}
		c.role(h, role, c.nodes[h])
	}
}

// listen serves on every real and starts it.
func (c *control) listen(reals ...string) {
	for _, r := range reals {
		c.servers[r] = c.serve(r)
	}
	c.up(reals...)
}

// expectStates waits until balancers have the reals in these states, such as "mx1 active".
func (c *control) expectStates(lbs []string, want ...string) {
	c.t.Helper()
	for _, lb := range lbs {
		eventually(c.t, fmt.Sprintf("%q on %s", want, lb), func() bool {
			states := c.running[lb].states(c.t.Context())
			return !slices.ContainsFunc(want, func(w string) bool {
				name, state, _ := strings.Cut(w, " ")
				return states[name] != state
			})
		})
	}
}

// expectPeers waits until balancers see each other in a state.
func (c *control) expectPeers(state string, lbs ...string) {
	c.t.Helper()
	for _, lb := range lbs {
		eventually(c.t, "the others are "+state+" for "+lb, func() bool {
			n := 0
			for _, p := range show[member](c, lb, "peer-lb") {
				if !p.Self && p.State == state {
					n++
				}
			}
			return n == len(lbs)-1
		})
	}
}

// The rows of `show` as far as these tests look at them.
type (
	member struct {
		Name, State string
		Self        bool
	}
	realRow struct {
		Name, State, Why string
		Share            float64
		Slots            int
		PrimaryWeight    float64 `json:"primary_weight"`
		SecondaryWeight  float64 `json:"secondary_weight"`
		Flows            *int
	}
	drainRow struct {
		Real, State, Why string
		Flows            *int `json:"flows_left"`
		ETA              time.Time
		Safe             bool
		WaitsFor         []string `json:"waits_for"`
	}
	probeRow struct {
		Real, Type, State, Last string
		At                      time.Time
	}
)

// show gives what `show NOUN` has; nothing while the role does not answer.
func show[T any](c *control, host, noun string) []T {
	c.t.Helper()
	var list []T
	if daemon.Get(c.t.Context(), filepath.Join(c.dir, host), "lb", "/v1/"+noun, &list) != nil {
		return nil
	}
	return list
}

// row gives the first row of which something is true, and whether there is one.
func row[T any](list []T, is func(T) bool) (found T, ok bool) {
	i := slices.IndexFunc(list, is)
	if i < 0 {
		return found, false
	}
	return list[i], true
}

// real gives the row of a real on a balancer.
func (c *control) real(lb, name string) realRow {
	r, _ := row(show[realRow](c, lb, "real"), func(r realRow) bool { return r.Name == name })
	return r
}

// command runs one of the binary's commands on a host.
func (c *control) command(host string, args ...string) (string, error) {
	out, err := exec.Command(binary, append(args, "--run-dir", filepath.Join(c.dir, host))...).CombinedOutput()
	return string(out), err
}

func (c *control) mustRun(host string, args ...string) string {
	c.t.Helper()
	out, err := c.command(host, args...)
	if err != nil {
		c.t.Fatalf("%q on %s: %v\n%s", args, host, err, out)
	}
	return out
}

// waiting is a command that takes its time.
type waiting struct {
	cmd  *exec.Cmd
	done chan error

	mu  sync.Mutex
	out bytes.Buffer
}

// Write implements io.Writer.
func (w *waiting) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(text)
}

func (w *waiting) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String()
}

// ended says whether the command has.
func (w *waiting) ended() bool { return len(w.done) > 0 }

// begin starts a command on a host. It is killed with the test.
func (c *control) begin(host string, args ...string) *waiting {
	c.t.Helper()
	w := &waiting{cmd: exec.Command(binary, append(args, "--run-dir", filepath.Join(c.dir, host))...), done: make(chan error, 1)}
	w.cmd.Stdout, w.cmd.Stderr = w, w
	check(c.t, w.cmd.Start())
	finished := make(chan struct{})
	go func() {
		w.done <- w.cmd.Wait()
		close(finished)
	}()
	c.t.Cleanup(func() {
		_ = w.cmd.Process.Kill() // it may have ended
		<-finished
	})
	return w
}

// slotTable is a farm's table as it is in the kernel: for each slot the addresses of its two reals.
type slotTable []slotReals

type slotReals struct{ primary, secondary netip.Addr }

// table reads the table of a balancer's only farm out of what it has pinned.
func (c *control) table(lb string) slotTable {
	c.t.Helper()
	pinned := func(name string) *ebpf.Map {
		found, err := filepath.Glob(filepath.Join(c.pins, lb, "anycastle", "lb", "maps-*", name))
		check(c.t, err)
		if len(found) != 1 {
			c.t.Fatalf("%q are the maps of that name, want one", found)
		}
		m, err := ebpf.LoadPinnedMap(found[0], &ebpf.LoadPinOptions{ReadOnly: true})
		check(c.t, err)
		return m
	}
	reals, farms := pinned("reals"), pinned("farms")
	defer reals.Close()
	defer farms.Close()
	addr := map[uint16]netip.Addr{}
	var index uint32
	var value [64]byte
	for all := reals.Iterate(); all.Next(&index, &value); {
		addr[uint16(index)] = netip.AddrFrom4([4]byte(value[:4])) // the reals of these tests have IPv4 addresses
	}
	var inner *ebpf.Map
	check(c.t, farms.Lookup(uint32(0), &inner))
	defer inner.Close()
	var table slotTable
	for block := range inner.MaxEntries() {
		var slots [64]byte
		check(c.t, inner.Lookup(block, &slots))
		for at := 0; at < len(slots); at += 4 {
			primary, secondary := binary16(slots[at:]), binary16(slots[at+2:])
			table = append(table, slotReals{addr[primary], addr[secondary]})
		}
	}
	return table
}

func binary16(b []byte) uint16 { return endian.NativeEndian.Uint16(b) }

// moved counts the slots whose new flows go elsewhere than in another table, as a part of all.
func (t slotTable) moved(other slotTable) float64 {
	n := 0
	for i := range t {
		if t[i].primary != other[i].primary {
			n++
		}
	}
	return float64(n) / float64(len(t))
}

// expectSameTables waits until the balancers have the same table, slot by slot, and gives it.
func (c *control) expectSameTables(lbs ...string) slotTable {
	c.t.Helper()
	var first slotTable
	eventually(c.t, "one table on all of "+strings.Join(lbs, ", "), func() bool {
		first = c.table(lbs[0])
		return !slices.ContainsFunc(lbs[1:], func(lb string) bool { return !slices.Equal(first, c.table(lb)) })
	})
	return first
}

// expectDrain waits until a drain is shown on each of the balancers as it should be.
func (c *control) expectDrain(lbs []string, what string, is func(drainRow) bool) {
	c.t.Helper()
	for _, lb := range lbs {
		eventually(c.t, "drain "+what+" on "+lb, func() bool {
			_, ok := row(show[drainRow](c, lb, "drain"), is)
			return ok
		})
	}
}

// decode reads what a command has printed as JSON.
func decode[T any](t testing.TB, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
