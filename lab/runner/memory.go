package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MeasureMemory fills in what each node's processes and its init hold in memory, and the sum. A page that several
// processes share, such as the binary's code, counts for each of them by its share (PSS), so that the sum is what the
// machine would have free without the lab. Not in it: BPF maps, sockets, files in /run, /tmp and on a disk of the node's.
// It walks every page table, some milliseconds a process: not for a loop.
func (s *Status) MeasureMemory() error {
	s.Memory = 0
	for i := range s.Nodes {
		n := &s.Nodes[i]
		n.Memory = 0
		if !n.Alive {
			continue
		}
		pids := []int{n.Pid}
		for _, p := range n.Processes {
			pids = append(pids, p.Pid)
		}
		for _, pid := range pids {
			size, err := processMemory(pid)
			if err != nil {
				return fmt.Errorf("memory of %s: %w", n.Name, err)
			}
			n.Memory += size
		}
		s.Memory += n.Memory
	}
	return nil
}

// processMemory reads the PSS of a process in bytes; one that has ended has none.
func processMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return parsePSS(string(text)), nil
}

// parsePSS takes the line "Pss: 1234 kB" (proc_pid_smaps(5)).
func parsePSS(text string) int64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}
