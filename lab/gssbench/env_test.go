package gssbench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/netnstest"
)

// patience bounds every wait for something that a process brings about.
const patience = 60 * time.Second

// binary is the product, as a user builds it.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gssbench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "anycastle")
	build := exec.Command("go", "build", "-o", binary, "anycastle/cmd/anycastle")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	code := 1
	if err = build.Run(); err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "build the binary:", err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls a condition that a process brings about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

// pause lets time pass in which nothing is waited for but that nothing goes wrong.
func pause(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// process is one that runs on a host.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  transcript
	done chan struct{} // closed when it has ended
	err  error         // once it has
}

// start runs a program on a host until the test ends, or this process does.
func start(t testing.TB, host *netnstest.NS, name, dir string, argv ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
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
	check(t, <-started)
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("%s says:\n%s", name, p.log.tail(2000))
		}
	})
	return p
}

// signal sends one; a process that has ended does not get it.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Signal(sig) // it may end at this moment
	}
}

// stop asks the process to end, and waits for it.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end", p.name)
	}
	if p.err != nil {
		p.t.Errorf("%s ends: %v", p.name, p.err)
	}
}

// ended says whether it has.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// transcript is what a process says. It is safe for concurrent use.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *transcript) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// tail gives the last bytes.
func (l *transcript) tail(n int) string {
	text := l.String()
	return text[max(0, len(text)-n):]
}

// load is the machine's load average of the last minute: what it was busy with beside the benchmark.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s on %d processors", bytes.Fields(text)[0], runtime.NumCPU())
}
