package real

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// hostLoad is how busy the machine is: the processes that run or wait to run, averaged over about a minute, for each
// CPU. It moves slowly on purpose: weights are set by it, and a weight that changes moves flows.
func hostLoad() (float64, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("read the load: %w", err)
	}
	load, err := parseLoad(text)
	if err != nil {
		return 0, err
	}
	text, err = os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return 0, fmt.Errorf("count CPUs: %w", err)
	}
	cpus, err := parseCPUs(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, err
	}
	return load / float64(cpus), nil
}

// parseLoad reads the first figure of /proc/loadavg.
func parseLoad(text []byte) (float64, error) {
	first, _, _ := bytes.Cut(text, []byte(" "))
	load, err := strconv.ParseFloat(string(first), 64)
	if err != nil || load < 0 || load > 1e9 || load != load {
		return 0, fmt.Errorf("read the load: %q is none", first)
	}
	return load, nil
}

// parseCPUs counts a list such as 0-3,8.
func parseCPUs(list string) (int, error) {
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		from, to, ok := strings.Cut(part, "-")
		if !ok {
			to = from
		}
		low, err1 := strconv.ParseUint(from, 10, 16)
		high, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || high < low {
			return 0, fmt.Errorf("count CPUs: %q is no list of them", list)
		}
		n += int(high-low) + 1
	}
	return n, nil
}

// listenDrops are what the whole network namespace has dropped at listening sockets.
type listenDrops struct {
	Overflows uint64 // for a full queue of connections to accept
	Drops     uint64 // for any reason
}

// readListenDrops asks about the namespace of the thread that it runs on.
func readListenDrops() (listenDrops, error) {
	text, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		return listenDrops{}, fmt.Errorf("read the kernel's counters: %w", err)
	}
	return parseNetstat(string(text))
}

// parseNetstat reads pairs of lines: names, and then as many figures.
func parseNetstat(text string) (d listenDrops, err error) {
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		if !strings.HasPrefix(lines[i], "TcpExt: ") {
			continue
		}
		names, figures := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) != len(figures) {
			break
		}
		found := 0
		for j, name := range names {
			var to *uint64
			switch name {
			case "ListenOverflows":
				to = &d.Overflows
			case "ListenDrops":
				to = &d.Drops
			default:
				continue
			}
			if *to, err = strconv.ParseUint(figures[j], 10, 64); err != nil {
				return listenDrops{}, fmt.Errorf("read the kernel's counters: %w", err)
			}
			found++
		}
		if found == 2 {
			return d, nil
		}
	}
	return listenDrops{}, fmt.Errorf("read the kernel's counters: ListenOverflows and ListenDrops are not among them")
}
