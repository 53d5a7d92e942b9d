package milter_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
	"anycastle/mailroles/milter"
)

// untilClean waits for clamav-milter to find its clamd, which it looks for beside its work.
func (m *mx) untilClean(t *testing.T, c *smtp.Client) {
	t.Helper()
	proctest.Eventually(t, "ClamAV judges mail", func() bool { return send(t, c, ordinary) == 250 })
	m.take()
}

// clamav gives starts of ClamAV's two daemons, which know one virus, and its config here.
func clamav(t *testing.T, ns *netnstest.NS) (clamd, milterd func() *proctest.Process, c milter.Config) {
	t.Helper()
	dir := t.TempDir()
	proctest.Check(t, os.Mkdir(filepath.Join(dir, "db"), 0o755))
	write(t, filepath.Join(dir, "db", "local.ndb"), fmt.Sprintf("Test.Local:0:*:%x\n", virus))
	scan, socket := filepath.Join(dir, "clamd.sock"), filepath.Join(dir, "milter.sock")
	write(t, filepath.Join(dir, "clamd.conf"), fmt.Sprintf(`LocalSocket %s
DatabaseDirectory %s/db
Foreground yes
TemporaryDirectory %[2]s
`, scan, dir))
	write(t, filepath.Join(dir, "milter.conf"), fmt.Sprintf(`MilterSocket unix:%s
ClamdSocket unix:%s
Foreground yes
TemporaryDirectory %s
OnInfected Reject
OnFail Defer
RejectMsg Virus %%v found
AddHeader Replace
`, socket, scan, dir))
	clamd = func() *proctest.Process {
		return daemon(t, ns, dir, scan, "clamd", "-c", filepath.Join(dir, "clamd.conf"))
	}
	milterd = func() *proctest.Process {
		return daemon(t, ns, dir, socket, "clamav-milter", "-c", filepath.Join(dir, "milter.conf"))
	}
	return clamd, milterd, milter.Config{Name: "clamav", Addr: "unix:" + socket, Timeout: time.Minute, OnFailure: milter.Tempfail}
}

func TestClamAV(t *testing.T) {
	ns := netnstest.New(t)
	startClamd, startMilter, config := clamav(t, ns)
	m := newMX(t, config)
	c := m.client(t)
	clamd := startClamd()
	p := startMilter()
	passes := func(when string) {
		t.Helper()
		if code := send(t, c, ordinary); code != 250 {
			t.Errorf("%s: %d", when, code)
		}
		checkAdded(t, m.take(), ordinary, "X-Virus-Scanned:", "X-Virus-Status: Clean")
	}
	m.untilClean(t, c)
	passes("ordinary message")
	if code := send(t, c, ordinary+virus+"\r\n"); code != 550 {
		t.Errorf("EICAR: %d", code)
	}
	passes("after EICAR")
	if code := send(t, c, strings.Replace(ordinary, "Subject:", "X-Virus-Status: Infected\r\nSubject:", 1)); code != 250 {
		t.Errorf("message with a field of the milter's: %d", code)
	}
	checkAdded(t, m.take(), ordinary, "X-Virus-Status: Clean") // the client's is gone

	p.Kill()
	if code := send(t, c, ordinary); code != 451 {
		t.Errorf("milter was killed: %d", code)
	}
	p = startMilter()
	m.untilClean(t, c)
	passes("milter is back")
	checkHang(t, config, p)
	passes("milter goes on")

	clamd.Kill()
	if code := send(t, c, ordinary); code != 451 {
		t.Errorf("clamd was killed: %d", code)
	}
	startClamd()
	m.untilClean(t, c)
	if code := send(t, c, ordinary+virus+"\r\n"); code != 550 {
		t.Errorf("EICAR after clamd is back: %d", code)
	}
	t.Logf("%+v", m.chain.Status()[0])
}

// checkHang has an impatient server ask a milter that stands still for a while.
func checkHang(t *testing.T, config milter.Config, p *proctest.Process) {
	t.Helper()
	config.Timeout = 2 * time.Second
	m := newMX(t, config)
	c := m.client(t)
	m.untilClean(t, c) // by a connection that is there when the milter stops
	p.Signal(syscall.SIGSTOP)
	proctest.Eventually(t, "the milter stands still", func() bool { return stopped(t, p.PID()) })
	start := time.Now()
	if code := send(t, c, ordinary); code != 451 {
		t.Errorf("milter hangs: %d", code)
	}
	if took := time.Since(start); took < config.Timeout || took > config.Timeout+20*time.Second {
		t.Errorf("milter hangs: reply after %v", took)
	}
	if st := m.chain.Status()[0]; st.State != milter.StateFailing || !strings.Contains(st.LastError, "no answer within 2s") {
		t.Errorf("milter hangs: %+v", st)
	}
	p.Signal(syscall.SIGCONT)
}

// stopped says whether all threads of a process have been stopped: each of them goes on until it is told.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return false // it has ended since
		}
		if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}
