package lb

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// execProbe is the argument that makes this binary the program of an exec probe.
const execProbe = "exec-probe"

// runExecProbe asks for the VIP on one real, as its environment says, and whether it is that real that answers.
func runExecProbe() error {
	mark, err := strconv.Atoi(os.Getenv("ANYCASTLE_PROBE_MARK"))
	if err != nil || mark == 0 {
		return fmt.Errorf("the mark is %d, %w", mark, err)
	}
	want := map[string]string{"198.51.100.18": "mx1\n", "198.51.100.34": "mx2\n"}[os.Getenv("ANYCASTLE_PROBE_ADDRESS")]
	d := net.Dialer{Timeout: patience, Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
		}), err)
	}}
	for range 12 { // balanced, they would all come to one real once in 2,048 times
		conn, err := d.Dial("tcp", net.JoinHostPort(os.Getenv("ANYCASTLE_PROBE_VIP"), "25"))
		if err != nil {
			return err
		}
		name := make([]byte, 4)
		_, err = io.ReadFull(conn, name)
		conn.Close()
		if err != nil || string(name) != want {
			return fmt.Errorf("%q answers, want %q, %w", name, want, err)
		}
	}
	return nil
}

// TestExecProbeThroughTheDataPath has a program ask each real for the VIP by the mark that it is told.
func TestExecProbeThroughTheDataPath(t *testing.T) {
	n := newNetwork(t)
	serve(t, n.mx1, "mx1")
	serve(t, n.mx2, "mx2")
	n.start(n.mx1, "real", nodeReal, "mx1")
	n.start(n.mx2, "real", nodeReal, "mx2")
	text := strings.Replace(nodeLB, "probes: [", fmt.Sprintf("probes: [{type: exec, command: [%q, %s], interval: 5s, timeout: 5s, fail: 1, pass: 1}, ",
		os.Args[0], execProbe), 1)
	balancer := n.start(n.lb, "lb", text, "lb")
	var probes []ProbeStatus
	eventually(t, "exec probes pass", func() bool {
		passing := 0
		probes = nil
		balancer.get("/v1/probe", &probes)
		for _, p := range probes {
			if p.Type == "exec" && p.State.String() == "passing" {
				passing++
			}
		}
		return passing == 2
	})
	eventually(t, "both reals in service", func() bool { return balancer.inService("mx1") && balancer.inService("mx2") })
}
