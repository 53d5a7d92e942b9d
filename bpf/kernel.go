package bpf

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The oldest kernel that the programs are tested on.
const (
	minMajor = 6
	minMinor = 1
)

// checkKernel says, before anything is loaded, that the kernel is too old or that this process may not load programs:
// the kernel's own answers would be a log of its verifier and "operation not permitted".
func checkKernel() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("ask for the kernel's release: %w", err)
	}
	if err := checkRelease(unix.ByteSliceToString(name.Release[:])); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of 32 capabilities each
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("ask for this process's capabilities: %w", err)
	}
	return checkCapabilities(uint64(data[1].Effective)<<32 | uint64(data[0].Effective))
}

func checkRelease(release string) error {
	major, minor, ok := parseRelease(release)
	if !ok {
		return fmt.Errorf("kernel %s: its release does not begin with a version; the programs need %d.%d or later", release, minMajor, minMinor)
	}
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("kernel %s is too old: the programs need %d.%d or later; install a newer kernel and boot it", release, minMajor, minMinor)
	}
	return nil
}

// parseRelease takes the first two numbers of what `uname -r` prints, such as 6.1.0-18-amd64 or 6.18-rc1.
func parseRelease(release string) (major, minor int, ok bool) {
	first, rest, found := strings.Cut(release, ".")
	if !found {
		return 0, 0, false
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		rest = rest[:end]
	}
	// uint, since Atoi would take a sign
	a, errA := strconv.ParseUint(first, 10, 31)
	b, errB := strconv.ParseUint(rest, 10, 31)
	return int(a), int(b), errA == nil && errB == nil
}

// checkCapabilities looks at the effective set. CAP_SYS_ADMIN holds what it held before the others were split from it.
// Without CAP_PERFMON the verifier refuses arithmetic that the programs do, such as the length of a packet.
func checkCapabilities(effective uint64) error {
	has := func(bit int) bool { return effective&(1<<bit) != 0 }
	var missing []string
	for _, c := range []struct {
		name    string
		bit     int
		ofAdmin bool
	}{
		{"CAP_BPF", unix.CAP_BPF, true},
		{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, false},
		{"CAP_PERFMON", unix.CAP_PERFMON, true},
	} {
		if !has(c.bit) && !(c.ofAdmin && has(unix.CAP_SYS_ADMIN)) {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no privilege to load programs into the kernel (%s missing): run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
			strings.Join(missing, ", "))
	}
	return nil
}
