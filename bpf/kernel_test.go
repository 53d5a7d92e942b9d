package bpf

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"anycastle/internal/netnstest"

	"golang.org/x/sys/unix"
)

func TestCheckRelease(t *testing.T) {
	for _, tc := range []struct{ release, err string }{
		{"6.1.0-56-cloud-amd64", ""},
		{"6.1", ""},
		{"6.18-rc1", ""},
		{"6.18.44-fc", ""},
		{"7.0.0", ""},
		{"10.0.1", ""},
		{"6.0.19", "kernel 6.0.19 is too old: the programs need 6.1 or later"},
		{"5.10.0-28-amd64", "kernel 5.10.0-28-amd64 is too old: the programs need 6.1 or later; install a newer kernel and boot it"},
		{"5.19.0", "too old"},
		{"2.6.101", "too old"},
		{"", "does not begin with a version"},
		{"6", "does not begin with a version"},
		{"6.", "does not begin with a version"},
		{"+6.1", "does not begin with a version"},
		{"6.-1", "does not begin with a version"},
		{"99999999999.1", "does not begin with a version"},
	} {
		err := checkRelease(tc.release)
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%q: error %v, want %q", tc.release, err, tc.err)
		}
	}
}

// FuzzParseRelease holds every release that is understood to the text that it came from.
func FuzzParseRelease(f *testing.F) {
	for _, seed := range []string{"6.1.0-56-cloud-amd64", "6.18-rc1", "6.1", "6", ".", "6.١", "-6.1", "06.01", "6.1\x00", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, release string) {
		major, minor, ok := parseRelease(release)
		if !ok {
			return
		}
		if major < 0 || minor < 0 {
			t.Fatalf("%q gives %d.%d", release, major, minor)
		}
		first, rest, _ := strings.Cut(release, ".")
		if want := fmt.Sprint(major); strings.TrimLeft(first, "0") != strings.TrimLeft(want, "0") {
			t.Errorf("%q gives major %s", release, want)
		}
		rest = strings.TrimLeft(rest, "0")
		want := strings.TrimLeft(fmt.Sprint(minor), "0")
		after, found := strings.CutPrefix(rest, want)
		if !found || after != "" && after[0] >= '0' && after[0] <= '9' {
			t.Errorf("%q gives minor %d", release, minor)
		}
	})
}

// set64 gives the set of the capabilities.
func set64(capabilities ...int) (set uint64) {
	for _, c := range capabilities {
		set |= 1 << c
	}
	return set
}

func TestCheckCapabilities(t *testing.T) {
	for _, tc := range []struct {
		name      string
		effective uint64
		missing   string
	}{
		{"root", ^uint64(0), ""},
		{"the three", set64(unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON), ""},
		{"as before 5.8", set64(unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN), ""},
		{"nothing", 0, "(CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON missing)"},
		{"no net", set64(unix.CAP_BPF, unix.CAP_PERFMON), "(CAP_NET_ADMIN missing)"},
		{"no net of an admin", set64(unix.CAP_SYS_ADMIN), "(CAP_NET_ADMIN missing)"},
		{"no bpf", set64(unix.CAP_NET_ADMIN, unix.CAP_PERFMON), "(CAP_BPF missing)"},
		{"no perfmon", set64(unix.CAP_NET_ADMIN, unix.CAP_BPF), "(CAP_PERFMON missing)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := checkCapabilities(tc.effective)
			if tc.missing == "" && err != nil || tc.missing != "" && (err == nil || !strings.Contains(err.Error(), tc.missing)) {
				t.Errorf("error %v, want %q", err, tc.missing)
			}
		})
	}
}

// withCapabilities runs f on a thread that keeps only those of its capabilities, and ends with it.
func withCapabilities(t *testing.T, keep uint64, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			done <- err
			return
		}
		data[0].Effective &= uint32(keep)
		data[1].Effective &= uint32(keep >> 32)
		if err := unix.Capset(&header, &data[0]); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func TestLoadWithoutPrivilege(t *testing.T) {
	netnstest.Root(t)
	loads := map[string]func(dir string) error{
		"balancer": func(dir string) error {
			lb, err := LoadLB(dir, hashKey)
			if err == nil {
				err = lb.Close()
			}
			return err
		},
		"real": func(dir string) error {
			host, err := LoadReal(dir)
			if err == nil {
				err = host.Close()
			}
			return err
		},
	}
	for name, load := range loads {
		t.Run(name, func(t *testing.T) {
			dir := pinDir(t)
			all := []int{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}
			for _, lost := range all {
				err := withCapabilities(t, set64(all...)&^set64(lost), func() error { return load(dir) })
				if err == nil || !strings.Contains(err.Error(), "missing): run as root") {
					t.Errorf("without capability %d: error %v, want one that names the mend", lost, err)
				}
			}
			if err := withCapabilities(t, set64(all...), func() error { return load(dir) }); err != nil {
				t.Errorf("with all that the error asks for: %v", err)
			}
		})
	}
}
