// Package proctest runs programs in namespaces for tests: the product as a user builds it, and those of others.
//
// A program ends with its test, whatever happens. Nothing has to be closed.
package proctest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/netnstest"
)

// Patience bounds every wait for something that a process brings about.
const Patience = 60 * time.Second

// binaryEnv says where the product is, for runs of many packages: else each of them links it anew.
const binaryEnv = "ANYCASTLE_BINARY"

// Main is a TestMain that builds the product first, unless ANYCASTLE_BINARY says where it is. at is told where; the exit code is
// the caller's to use.
func Main(m *testing.M, at func(binary string)) (code int) {
	if binary := os.Getenv(binaryEnv); binary != "" {
		at(binary)
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "proctest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "anycastle")
	build := exec.Command("go", "build", "-o", binary, "anycastle/cmd/anycastle")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err = build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the binary:", err)
		return 1
	}
	at(binary)
	return m.Run()
}

// Check fails the test when there is an error.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually polls a condition that a process brings about.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", Patience, what)
		case <-tick.C:
		}
	}
}

// Process is a program that runs in a namespace.
type Process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  Transcript
	done chan struct{} // closed when it has ended
	err  error         // once it has
}

// Start runs a program in a namespace until the test ends, or the program does. It works in dir.
func Start(t testing.TB, host *netnstest.NS, name, dir string, argv ...string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // when the thread that started it ends
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		host.Do(func() error {
			err := p.cmd.Start()
			if started <- err; err == nil {
				p.err = p.cmd.Wait()
			}
			return nil
		})
	}()
	Check(t, <-started)
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("%s says:\n%s", name, p.log.Tail(4000))
		}
	})
	return p
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is what the process says.
func (p *Process) Log() *Transcript { return &p.log }

// Signal sends one; a process that has ended does not get it.
func (p *Process) Signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Signal(sig) // it may end at this moment
	}
}

// Kill ends the process at once, and waits for that.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end, and waits for it.
func (p *Process) Stop() {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		p.t.Errorf("%s ends: %v", p.name, err)
	}
}

// Wait waits for the process's end. The error is that of a program that failed.
func (p *Process) Wait() error {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.t.Fatalf("%s does not end", p.name)
	}
	return p.err
}

// Ended says whether the process has.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Transcript is what a process says. It is safe for concurrent use.
type Transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *Transcript) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

// String gives all of it.
func (l *Transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Tail gives the last n bytes.
func (l *Transcript) Tail(n int) string {
	text := l.String()
	return text[max(0, len(text)-n):]
}
