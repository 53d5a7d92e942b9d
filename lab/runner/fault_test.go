package runner

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"anycastle/lab/topology"
)

func TestCutIsSilent(t *testing.T) {
	l := up(t, Options{Topology: three})
	cut, whole := dial(t, l, "a", "192.0.2.1:7"), dial(t, l, "c", "198.51.100.0:7")
	for _, c := range []*conversation{cut, whole} {
		c.send("before")
		c.expect("before")
	}
	for range 2 {
		picked, err := l.Cut(Around("a"))
		if err != nil || len(picked) != 1 || picked[0].A.Node != "a" {
			t.Fatalf("Cut picked %v, %v", picked, err)
		}
	}
	cut.send("during")
	whole.send("during")
	whole.expect("during")
	select {
	case line, open := <-cut.heard:
		t.Fatalf("heard %q over a cut link (connection open: %v)", line, open)
	case <-time.After(300 * time.Millisecond):
	}
	if got := run(t, l, "a", "cat", "/sys/class/net/eth1/carrier"); got != "1" {
		t.Errorf("the carrier has gone: %s", got)
	}
	if got := linkStates(t, l); !slices.Equal(got, []LinkState{LinkCut, LinkUp}) {
		t.Errorf("link states %v", got)
	}
	for range 2 {
		if _, err := l.Heal(All()); err != nil {
			t.Fatal(err)
		}
	}
	cut.expect("during") // TCP sends it again
	if got := linkStates(t, l); !slices.Equal(got, []LinkState{LinkUp, LinkUp}) {
		t.Errorf("link states %v", got)
	}
}

func TestCutWaitsForAnotherProcess(t *testing.T) {
	l := up(t, Options{Topology: three})
	other, err := Open(l.Name, filepath.Dir(l.StateDir)) // as another process has it
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := other.lockCuts()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := l.Cut(All())
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("a cut does not wait for another: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCutOutlivesProcessesAndSparesOtherTables(t *testing.T) {
	l := up(t, Options{Topology: three})
	n, err := l.openNetwork("b")
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	own := &nftables.Table{Name: "own", Family: nftables.TableFamilyINet}
	c, err := nftables.New(nftables.WithNetNSFd(int(n.ns)))
	if err != nil {
		t.Fatal(err)
	}
	c.AddTable(own)
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Cut(Around("b")); err != nil {
		t.Fatal(err)
	}
	if err := l.Kill(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if got := linkStates(t, l); !slices.Equal(got, []LinkState{LinkCut, LinkCut}) {
		t.Errorf("link states after Kill and Start %v", got)
	}
	if _, err := l.Heal(All()); err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil || len(tables) != 1 || tables[0].Name != own.Name {
		t.Errorf("tables after Heal: %v, %v; want the node's own alone", tables, err)
	}
}

func linkStates(t *testing.T, l *Lab) []LinkState {
	t.Helper()
	s, err := l.Status()
	if err != nil {
		t.Fatal(err)
	}
	var states []LinkState
	for _, link := range s.Links {
		states = append(states, link.State)
	}
	return states
}

func TestKillAndStart(t *testing.T) {
	l := up(t, Options{Topology: three})
	c := dial(t, l, "a", "192.0.2.1:7")
	c.send("before")
	c.expect("before")
	if err := l.Start(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("Start of a node that runs: %v", err)
	}
	for range 2 {
		if err := l.Kill(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case line, open := <-c.heard:
		if open {
			t.Errorf("heard %q from a killed server", line)
		}
	case <-time.After(10 * time.Second):
		t.Error("the connection to a killed server stays open")
	}
	if got := processes(t, l, "b"); len(got) != 0 {
		t.Errorf("processes after Kill: %v", got)
	}
	if out, err := tryRun(t, l, "a", "anycastle", "knock", "192.0.2.1:7"); err == nil ||
		!strings.Contains(out, "connection refused") {
		t.Errorf("a killed server: %s, %v; want refused, for links and addresses stay", out, err)
	}
	if err := l.Start(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b answers again", func() bool {
		return l.Command(t.Context(), "a", "anycastle", "knock", "192.0.2.1:7").Run() == nil
	})
	if diff := cmp.Diff([][]string{{"anycastle", "echo", ":7"}}, processes(t, l, "b")); diff != "" {
		t.Errorf("processes after Start (-want +got):\n%s", diff)
	}
}

func processes(t *testing.T, l *Lab, node string) [][]string {
	t.Helper()
	s, err := l.Status()
	if err != nil {
		t.Fatal(err)
	}
	var argvs [][]string
	for _, n := range s.Nodes {
		for _, p := range n.Processes {
			if n.Name == node {
				argvs = append(argvs, p.Argv)
			}
		}
	}
	return argvs
}

func TestFaultsThatCannotBe(t *testing.T) {
	l := up(t, Options{Topology: three})
	if _, err := l.Cut(Around("a", "b", "c")); !errors.Is(err, ErrNoLink) {
		t.Errorf("Cut around all nodes: %v", err)
	}
	if err := l.Kill(t.Context(), "d"); err == nil || !strings.Contains(err.Error(), `no node "d"`) {
		t.Errorf("Kill of no node: %v", err)
	}
	if err := l.Start(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "no cmd") {
		t.Errorf("Start without a cmd: %v", err)
	}
	if err := l.Command(t.Context(), "a").Run(); err == nil {
		t.Error("an empty command runs")
	}
}

func TestSelectors(t *testing.T) {
	link := func(a, b string) topology.Link {
		return topology.Link{A: topology.Endpoint{Node: a}, B: topology.Endpoint{Node: b}}
	}
	tests := []struct {
		name string
		pick Selector
		link topology.Link
		want bool
	}{
		{"around, out", Around("a", "b"), link("a", "c"), true},
		{"around, in", Around("a", "b"), link("c", "b"), true},
		{"around, inside", Around("a", "b"), link("a", "b"), false},
		{"around, elsewhere", Around("a", "b"), link("c", "d"), false},
		{"all", All(), link("c", "d"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.pick(tt.link); got != tt.want {
				t.Errorf("picks %v: %v, want %v", tt.link, got, tt.want)
			}
		})
	}
}

func TestDesiredCuts(t *testing.T) {
	tests := []struct {
		name        string
		have, names []string
		cut         bool
		want        []string
	}{
		{"first", nil, []string{"eth1"}, true, []string{"eth1"}},
		{"more", []string{"eth2"}, []string{"eth1"}, true, []string{"eth1", "eth2"}},
		{"again", []string{"eth1"}, []string{"eth1"}, true, []string{"eth1"}},
		{"heal one", []string{"eth1", "eth2"}, []string{"eth1"}, false, []string{"eth2"}},
		{"heal what is whole", []string{"eth2"}, []string{"eth1"}, false, []string{"eth2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, desiredCuts(tt.have, tt.names, tt.cut)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommandEndsWithItsContext(t *testing.T) {
	l := up(t, Options{Topology: three})
	ctx, cancel := context.WithCancel(t.Context())
	cmd := l.Command(ctx, "c", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command is seen", func() bool { return len(processes(t, l, "c")) == 1 })
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a killed command ends well")
	}
	if got := processes(t, l, "c"); len(got) != 0 {
		t.Errorf("processes after: %v", got)
	}
}
