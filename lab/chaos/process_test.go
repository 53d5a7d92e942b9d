package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/proctest"
)

// process is a program of a host that dies and lives again, many times. All its lives write to one log. (proctest's have one life.)
type process struct {
	host *host
	argv []string
	log  *os.File

	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{} // closed when this life has ended
	err    error         // of the life that has
	wanted bool          // it is to live
	lives  int
}

// newProcess makes one that does not run yet. It ends with the test.
func newProcess(t testing.TB, h *host, logFile string, argv ...string) *process {
	t.Helper()
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	proctest.Check(t, err)
	p := &process{host: h, argv: argv, log: log}
	t.Cleanup(func() {
		p.kill()
		log.Close()
	})
	return p
}

// start begins a life, if there is none.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	if p.alive() {
		return nil
	}
	p.lives++
	fmt.Fprintf(p.log, "# life %d begins at %s\n", p.lives, time.Now().Format(time.StampMilli))
	cmd, ended, started := exec.Command(p.argv[0], p.argv[1:]...), make(chan struct{}), make(chan error, 1)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // when the thread that started it ends
	go func() {
		defer close(ended)
		p.host.ns.Do(func() error {
			err := cmd.Start()
			if started <- err; err == nil {
				p.err = cmd.Wait() // read after ended is closed
			}
			return nil
		})
	}()
	if err := <-started; err != nil {
		return err
	}
	p.cmd, p.ended = cmd, ended
	return nil
}

func (p *process) alive() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// fell says that the process has ended though nobody asked it to, and how.
func (p *process) fell() (fell bool, why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wanted || p.cmd == nil || p.alive() {
		return false, nil
	}
	return true, p.err
}

// signal sends one; a process that has ended does not get it.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alive() {
		_ = p.cmd.Process.Signal(sig) // it may end at this moment
	}
}

// kill ends the process at once, and waits for that.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = false
	if p.alive() {
		_ = p.cmd.Process.Signal(syscall.SIGKILL)
		<-p.ended
	}
}

// stop asks the process to end, and waits for it. One that had ended by itself is an error.
func (p *process) stop(patience time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	if p.alive() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	} else if p.wanted {
		return fmt.Errorf("%s had ended: %w", p.host.name, errors.Join(p.err))
	}
	p.wanted = false
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // its log tells where it hangs
		<-p.ended
		return fmt.Errorf("%s does not end within %v of SIGTERM", p.host.name, patience)
	}
}
