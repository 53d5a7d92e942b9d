package group

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// killedDir has the test binary be the process that is killed.
const killedDir = "GROUP_TEST_KILLED_DIR"

// TestKilled kills a process with three members again and again, while they append, elect others and cut off the ends of
// their logs. A process that was killed has all that it wrote: each member must be able to go on from its directory, and
// nothing that was acknowledged may be lost.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" {
		beKilled(t, dir)
		return
	}
	// It is not parallel: a process that is just being made has the locks of its parent for a moment.
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	acked := map[string]bool{}
	for range 30 {
		life := time.Duration(50+random.IntN(400)) * time.Millisecond
		for _, record := range liveFor(t, dir, life) {
			acked[record] = true
		}
	}
	c := killedCluster(t, dir, quick)
	count := map[string]int{}
	for _, record := range c.agree() {
		count[record]++
	}
	t.Logf("%d acknowledged, %d applied", len(acked), len(count))
	for record := range acked {
		if count[record] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", record, count[record])
		}
	}
	if len(acked) == 0 {
		t.Error("nothing was acknowledged")
	}
}

// liveFor runs the process, kills it some time after its members are open, and gives what was acknowledged.
func liveFor(t *testing.T, dir string, life time.Duration) (acked []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), killedDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var other []string
	opened := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		record, ok := strings.CutPrefix(lines.Text(), "acked ")
		switch {
		case ok:
			acked = append(acked, record)
		case lines.Text() == "open":
			opened = true
			defer time.AfterFunc(life, func() { _ = cmd.Process.Kill() }).Stop()
		default:
			other = append(other, lines.Text())
		}
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); !opened || !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the process was not killed: %v\n%s", err, strings.Join(other, "\n"))
	}
	return acked
}

// beKilled works until it is killed.
func beKilled(t *testing.T, dir string) {
	c := killedCluster(t, dir, Times{
		Heartbeat: 150 * time.Millisecond, Election: 150 * time.Millisecond, Lease: 100 * time.Millisecond,
		Commit: 5 * time.Millisecond, Stall: 20 * time.Second, RPC: 300 * time.Millisecond,
	})
	fmt.Println("open")
	for range 4 {
		go func() {
			for {
				record := fmt.Sprintf("%x", rand.Uint64())
				for _, n := range c.nodes {
					if n.state == nil || !n.leading() {
						continue
					}
					if _, err := n.add(record); err == nil {
						fmt.Println("acked " + record)
					}
					break // once only
				}
				time.Sleep(time.Millisecond)
			}
		}()
	}
	for {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		name := three[rand.IntN(3)].Name
		c.isolate(name, true)
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		c.isolate(name, false)
		for _, n := range c.nodes {
			if err := n.failure(); err != nil {
				t.Fatalf("%s is broken: %v", n.name, err)
			}
		}
	}
}

// killedCluster opens all members in a directory, with small segments and many markers.
func killedCluster(t *testing.T, dir string, times Times) *cluster {
	t.Helper()
	c := newCluster(t, three, func(o *Options) {
		o.Dir, o.Times = filepath.Join(dir, o.Self), times
		o.test.segment, o.test.interval = 8<<10, 20*time.Millisecond
	})
	var all raft.Configuration
	for _, m := range three {
		all.Servers = append(all.Servers, raft.Server{ID: raft.ServerID(m.Name), Address: raft.ServerAddress(m.Name)})
	}
	for _, m := range three {
		n := c.nodes[m.Name]
		n.dir = n.opts.Dir
		if n.state != nil {
			n.state.file = n.dir + ".state"
			n.state.load()
		}
		if Initialized(n.dir) {
			continue
		}
		if err := create(n.dir, base{
			Note: note{Index: 1, Term: 1, Members: raft.EncodeConfiguration(all), MembersAt: 1}, Ballot: ballot{Era: 1, Term: 1},
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range three {
		c.start(m.Name)
	}
	return c
}
