package lbbench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
)

// loadConnections is how many connections live through a replacement.
const loadConnections = 256

// edit changes one place of a source file.
type edit struct{ file, old, new string }

var (
	// otherProgram has the program answer echo requests with another TTL.
	otherProgram = edit{"headers/reply.h", `#define REPLY_TTL \d+`, "#define REPLY_TTL 63"}
	// otherMaps are of a layout of their own: a map has another size, and all are pinned elsewhere.
	otherMaps = []edit{
		{"headers/abi.h", `#define MAX_FRAGMENTS\s+\d+`, "#define MAX_FRAGMENTS 1024"},
		{"objects.go", `const layout = "[^"]+"`, `const layout = "maps-next"`},
	}
)

// buildOther builds the binary of another version: of this tree with these edits in bpf, and an object that is compiled
// from what they give.
func buildOther(t testing.TB, edits ...edit) string {
	t.Helper()
	root, err := filepath.Abs("../../bpf")
	check(t, err)
	dir := t.TempDir()
	check(t, os.CopyFS(dir, os.DirFS(root)))
	object := filepath.Join(root, "lb_bpfel.o")
	replaced := map[string]string{object: filepath.Join(dir, "lb_bpfel.o")}
	for _, e := range edits {
		file := filepath.Join(dir, e.file)
		text, err := os.ReadFile(file)
		check(t, err)
		other := regexp.MustCompile(e.old).ReplaceAllString(string(text), e.new)
		if other == string(text) {
			t.Fatalf("%s holds nothing like %q", e.file, e.old)
		}
		check(t, os.WriteFile(file, []byte(other), 0o600))
		if strings.HasSuffix(e.file, ".go") {
			replaced[filepath.Join(root, e.file)] = file
		}
	}
	// as bpf2go compiles it
	runIn(t, dir, "clang-14", "-O2", "-mcpu=v1", "-g", "-Wall", "-Werror", "-nostdinc", "-target", "bpfel", "-c", "lb.c", "-o", "lb_bpfel.o")
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	out := filepath.Join(dir, "anycastle")
	runIn(t, root, "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", out, "anycastle/cmd/anycastle")
	return out
}

func runIn(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}

// replaceable is a site with a balancer that is replaced under load.
type replaceable struct {
	*site
	node string
	lb   *process
}

func newReplaceable(t testing.TB) *replaceable {
	t.Helper()
	r := &replaceable{site: newSite(t, 1, 2)}
	for _, real := range []string{"mx1", "mx2"} {
		r.serve(real)
		r.role(real, "real", nodeReal)
	}
	r.node = r.nodeLB("      probes: [{type: tcp, port: 25, interval: 200ms, timeout: 200ms, fail: 5}]\n", "mx1", "mx2") +
		fmt.Sprintf("    - {name: discard, address: %s, protocol: udp, port: %s, farm: smtp}\n", vip, discardPort)
	r.startLB(binary)
	r.route("lb1")
	return r
}

// startLB starts a balancer of a version and waits until it has both reals in service.
func (r *replaceable) startLB(version string) {
	r.t.Helper()
	r.binary = version
	r.lb = r.role("lb1", "lb", r.node)
	eventually(r.t, "both reals active", func() bool {
		st := r.lb.states(r.t.Context())
		return st["mx1"] == "active" && st["mx2"] == "active"
	})
}

// replace stops the balancer, has the load go on without one, and starts one of a version.
func (r *replaceable) replace(l *load, sig syscall.Signal, version string) {
	r.t.Helper()
	r.lb.stop(sig)
	l.await("the load goes on without the process", 4)
	r.startLB(version)
	l.await("the load goes on after the start", 4)
}

// attached gives the tag, which is a hash of the instructions, and the id of the program on lb1's uplink.
func (r *replaceable) attached() (tag string, id ebpf.ProgramID) {
	r.t.Helper()
	eth, err := r.hosts["lb1"].Link.LinkByName("eth1")
	check(r.t, err)
	if eth.Attrs().Xdp == nil {
		r.t.Fatal("no program is on the uplink")
	}
	id = ebpf.ProgramID(eth.Attrs().Xdp.ProgId)
	prog, err := ebpf.NewProgramFromID(id)
	check(r.t, err)
	defer prog.Close()
	info, err := prog.Info()
	check(r.t, err)
	return info.Tag, id
}

// TestReplaceUnderLoad kills the balancer and starts it again, upgrades it to a binary with another program, and on to one
// whose maps have another layout: no datagram and no connection is lost.
func TestReplaceUnderLoad(t *testing.T) {
	upgraded := buildOther(t, otherProgram)
	relaid := buildOther(t, append(otherMaps, otherProgram)...)
	for _, tc := range []struct {
		name     string
		sig      syscall.Signal
		version  string
		otherTag bool
	}{
		{"kill", syscall.SIGKILL, binary, false},
		{"upgrade", syscall.SIGTERM, upgraded, true},
		{"upgrade after a kill", syscall.SIGKILL, upgraded, true},
		{"upgrade to another layout", syscall.SIGTERM, relaid, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newReplaceable(t)
			tag, id := r.attached()
			l := r.startLoad(loadConnections, "mx1", "mx2")
			r.replace(l, tc.sig, tc.version)
			newTag, newID := r.attached()
			if newID == id || (newTag != tag) != tc.otherTag {
				t.Errorf("program %d %s is attached, after %d %s", newID, newTag, id, tag)
			}
			l.stop().whole(t)
		})
	}
}

// TestUpgradeBesideTheOldProcess is refused, and changes nothing.
func TestUpgradeBesideTheOldProcess(t *testing.T) {
	r := newReplaceable(t)
	_, id := r.attached()
	l := r.startLoad(loadConnections, "mx1", "mx2")
	second := r.role("lb1", "lb", r.node)
	if err := second.cmd.Wait(); err == nil {
		t.Error("a second process runs beside the first")
	}
	if text := second.log.String(); !strings.Contains(text, "another lb answers on") || !strings.Contains(text, "stop it") {
		t.Errorf("it says %q, want the cause and the mend", text)
	}
	l.await("the load goes on", 4)
	if _, newID := r.attached(); newID != id {
		t.Errorf("program %d is attached, after %d", newID, id)
	}
	if st := r.lb.states(t.Context()); st["mx1"] != "active" || st["mx2"] != "active" {
		t.Errorf("the first process says %v", st)
	}
	l.stop().whole(t)
}

// BenchmarkReplace replaces the balancer under load, as often as there is time for. ns/op is from the end of one process
// until its successor has the reals in service and the load has gone on with it.
func BenchmarkReplace(b *testing.B) {
	upgraded := buildOther(b, otherProgram)
	relaid := buildOther(b, append(otherMaps, otherProgram)...)
	for _, bc := range []struct {
		name     string
		sig      syscall.Signal
		versions [2]string // in turn
	}{
		{"restart/kill", syscall.SIGKILL, [2]string{binary, binary}},
		{"restart/upgrade", syscall.SIGTERM, [2]string{upgraded, binary}},
		{"restart/upgrade-layout", syscall.SIGTERM, [2]string{relaid, binary}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			r := newReplaceable(b)
			l := r.startLoad(loadConnections, "mx1", "mx2")
			for n := 0; b.Loop(); n++ {
				r.replace(l, bc.sig, bc.versions[n%2])
			}
			report := l.stop()
			report.whole(b)
			b.ReportMetric(float64(report.packets), "packets")
			b.ReportMetric(float64(report.lost), "packets_lost")
			b.ReportMetric(float64(report.connections), "connections")
			b.ReportMetric(float64(report.broken), "broken")
		})
	}
}
