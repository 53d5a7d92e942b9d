package lb

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"anycastle/internal/netnstest"
)

// serviceEnv has this binary be a service of a real: a process that a test can kill.
const serviceEnv = "ANYCASTLE_LB_TEST_SERVICE"

// service is what such a process is told.
type service struct {
	Listen  []string // addresses
	Backlog int      // 0: the default
	Hung    bool     // nothing is accepted
	Ready   string   // file that it makes when it listens
}

func runService(text string) error {
	var s service
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM) // a hung one waits for it
	defer stop()
	failed := make(chan error)
	for _, addr := range s.Listen {
		ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		if err != nil {
			return err
		}
		if s.Backlog > 0 { // a second listen changes it
			raw, err := ln.(*net.TCPListener).SyscallConn()
			if err != nil {
				return err
			}
			raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), s.Backlog) })
			if err != nil {
				return err
			}
		}
		if s.Hung {
			continue
		}
		go func() { failed <- hold(ln) }()
	}
	if err := os.WriteFile(s.Ready, nil, 0o600); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-ended.Done():
		return nil
	}
}

// hold takes connections and ends each when its client does.
func hold(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			c.Read(make([]byte, 1))
			c.Close()
		}()
	}
}

// startService gives a function that kills the process.
func startService(t *testing.T, ns *netnstest.NS, s service) (kill func()) {
	t.Helper()
	s.Ready = t.TempDir() + "/ready"
	text, err := json.Marshal(s)
	check(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serviceEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	ns.Do(cmd.Start)
	kill = func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	t.Cleanup(kill)
	eventually(t, "service listens", func() bool {
		_, err := os.Stat(s.Ready)
		return err == nil
	})
	return kill
}
