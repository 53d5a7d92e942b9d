package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"anycastle/internal/wholefile"
	"anycastle/lab/topology"
)

const (
	stateFile = "state.json"
	topoDir   = "topo" // the copy of the topology's folder; binds come from here
	logDir    = "log"
	sockDir   = "sock"
	rootDir   = "root" // where each init mounts its root, in its own mount namespace
)

// state is state.json: what another process needs to find a lab again.
type state struct {
	Source   string            `json:"source"` // the topology file that Up was given, absolute unless it came in Files
	Topology topology.Topology `json:"topology"`
	Boot     string            `json:"boot"` // the kernel's boot id: after a reboot no pid means anything
	Inits    []initState       `json:"inits"`
}

// initState names one init beyond doubt: a pid is used again, a pid with its start time is not.
type initState struct {
	Node  string `json:"node"`
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
}

// writeState writes down the lab with the inits that it has so far.
func (l *Lab) writeState() error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	s := state{Source: l.source, Topology: *l.Topology, Boot: boot, Inits: slices.Collect(maps.Values(l.inits))}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	return wholefile.Put(filepath.Join(l.StateDir, stateFile), append(text, '\n'))
}

func readState(dir string) (*state, error) {
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, stateFile), err)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if s.Boot != boot {
		s.Inits = nil
	}
	return &s, nil
}

func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// errGone means that a process is not there any more.
var errGone = errors.New("process is gone")

// readStat says when a process was started and whether it has ended and only waits to be collected by its parent. The
// error is errGone when there is no such process.
func readStat(pid int) (start uint64, ended bool, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, false, errGone
	} else if err != nil {
		return 0, false, fmt.Errorf("read process %d: %w", pid, err)
	}
	return parseStat(string(text))
}

// parseStat reads /proc/PID/stat (proc_pid_stat(5)). The command's name, in parentheses, may hold anything: fields
// are counted from behind it.
func parseStat(text string) (start uint64, ended bool, err error) {
	const state, threads, started = 0, 17, 19 // the manual counts from pid, 3 more
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= started {
		return 0, false, fmt.Errorf("read process: a stat line of %d fields", len(fields))
	}
	// a process is not over while threads outlive the first: they still hold its files
	ended = fields[state] == "X" || fields[state] == "Z" && (fields[threads] == "1" || fields[threads] == "0")
	if start, err = strconv.ParseUint(fields[started], 10, 64); err != nil {
		return 0, false, fmt.Errorf("read process: %w", err)
	}
	return start, ended, nil
}

// open gives a pidfd for the init, ended or not, or errGone. The start time is read after the descriptor is open: if it
// matches, the descriptor holds our init, and whoever gets the pid later is never touched through it.
func (i initState) open() (int, error) {
	fd, err := unix.PidfdOpen(i.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, errGone
	} else if err != nil {
		return -1, fmt.Errorf("open process of %s: %w", i.Node, err)
	}
	start, _, err := readStat(i.Pid)
	if err == nil && start != i.Start {
		err = errGone
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (i initState) alive() bool {
	start, ended, err := readStat(i.Pid)
	return err == nil && start == i.Start && !ended
}
