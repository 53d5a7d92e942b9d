package runner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"anycastle/lab/topology"
)

// Status is what a lab looks like now.
type Status struct {
	Name     string       `json:"name"`
	Topology string       `json:"topology"`  // the file that it was built from
	StateDir string       `json:"state_dir"` // logs are in its folder log
	Nodes    []NodeStatus `json:"nodes"`     // by name
	Links    []LinkStatus `json:"links"`     // in the topology's order
	Memory   int64        `json:"memory"`    // bytes, of all nodes; 0 before MeasureMemory
}

// NodeStatus is one node.
type NodeStatus struct {
	Name      string    `json:"name"`
	Pid       int       `json:"pid"` // of its init, in the host
	Alive     bool      `json:"alive"`
	State     NodeState `json:"state"`
	Memory    int64     `json:"memory"`    // bytes; 0 before MeasureMemory
	Processes []Process `json:"processes"` // all but init, by pid
}

// NodeState is the state of a node.
type NodeState string

// The states of a node.
const (
	NodeUp     NodeState = "up"
	NodeOff    NodeState = "off"    // by PowerOff
	NodePaused NodeState = "paused" // a process of it is, by Pause
	NodeGone   NodeState = "gone"   // its init has ended
)

// Process runs in a node.
type Process struct {
	Pid   int      `json:"pid"`   // in the host
	Inner int      `json:"inner"` // in the node
	Argv  []string `json:"argv"`

	Paused bool `json:"paused,omitempty"`
}

// LinkState is the state of a link.
type LinkState string

// The states of a link.
const (
	LinkUp   LinkState = "up"
	LinkCut  LinkState = "cut"  // by Cut, at either end
	LinkDown LinkState = "down" // no carrier
	LinkGone LinkState = "gone" // a node at its end has died
)

// LinkStatus is one link.
type LinkStatus struct {
	A     string    `json:"a"` // node:interface
	B     string    `json:"b"`
	MTU   int       `json:"mtu"` // bytes
	State LinkState `json:"state"`
}

// Status looks at every node and link. A node that has died is a state, not an error.
func (l *Lab) Status() (*Status, error) {
	s := &Status{Name: l.Name, Topology: l.source, StateDir: l.StateDir}
	processes, err := processesByNamespace()
	if err != nil {
		return nil, err
	}
	ends := map[topology.Endpoint]LinkState{}
	for _, name := range l.nodeNames() {
		i := l.inits[name]
		n := NodeStatus{Name: name, Pid: i.Pid, Alive: i.alive(), Processes: []Process{}}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", i.Pid)); err == nil && n.Alive {
			n.Processes = slices.DeleteFunc(processes[ns], func(p Process) bool { return p.Pid == i.Pid })
		}
		off, err := l.endStates(name, ends)
		if err != nil {
			return nil, err
		}
		n.State = nodeState(n, off)
		s.Nodes = append(s.Nodes, n)
	}
	for _, link := range l.Topology.Links {
		s.Links = append(s.Links, LinkStatus{
			A: link.A.String(), B: link.B.String(), MTU: link.MTU, State: linkState(ends[link.A], ends[link.B]),
		})
	}
	return s, nil
}

// nodeState tells the state of a node; off says that it has links and all are set down.
func nodeState(n NodeStatus, off bool) NodeState {
	switch {
	case !n.Alive:
		return NodeGone
	case off && len(n.Processes) == 0:
		return NodeOff
	case slices.ContainsFunc(n.Processes, func(p Process) bool { return p.Paused }):
		return NodePaused
	}
	return NodeUp
}

// linkState is that of the worse end.
func linkState(a, b LinkState) LinkState {
	for _, state := range []LinkState{LinkGone, LinkDown, LinkCut} {
		if a == state || b == state {
			return state
		}
	}
	return LinkUp
}

// endStates fills in the state of each end of a link in the node. off says that there are some and all are set down.
func (l *Lab) endStates(node string, ends map[topology.Endpoint]LinkState) (off bool, err error) {
	names := l.interfaces(node)
	n, err := l.openNetwork(node)
	if errors.Is(err, ErrNodeGone) {
		for _, name := range names {
			ends[topology.Endpoint{Node: node, Interface: name}] = LinkGone
		}
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer n.close()
	cuts, err := n.readCuts()
	if err != nil {
		return false, fmt.Errorf("read cuts of %s: %w", node, err)
	}
	off = len(names) > 0
	for _, name := range names {
		up, set, err := n.carrier(name)
		if err != nil {
			return false, fmt.Errorf("look at link of %s: %w", node, err)
		}
		off = off && !set
		state := LinkUp
		if !up {
			state = LinkDown
		} else if slices.Contains(cuts, name) {
			state = LinkCut
		}
		ends[topology.Endpoint{Node: node, Interface: name}] = state
	}
	return off, nil
}

// processesByNamespace lists the host's processes by the PID namespace they are in, each by pid. One that ends while
// it is looked at is left out.
func processesByNamespace() (map[string][]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	found := map[string][]Process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		ns, err := os.Readlink(filepath.Join(dir, "ns/pid"))
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(line) == 0 {
			continue // a kernel thread, or a process that has ended or is just becoming another program
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		found[ns] = append(found[ns], Process{
			Pid: pid, Inner: innerPid(string(status)), Argv: strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"),
			Paused: stopped(pid),
		})
	}
	for _, list := range found {
		slices.SortFunc(list, func(a, b Process) int { return a.Pid - b.Pid })
	}
	return found, nil
}

// innerPid takes the last pid of the line "NSpid:", which is the one in the innermost namespace.
func innerPid(status string) int {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			pids := strings.Fields(rest)
			pid, _ := strconv.Atoi(pids[len(pids)-1])
			return pid
		}
	}
	return 0
}
