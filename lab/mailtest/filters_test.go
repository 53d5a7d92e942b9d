package mailtest

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"anycastle/internal/proctest"
)

// virus and spam are the patterns by which scanners are tested. They are in pieces, so that no scanner minds this file.
var (
	virus = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-` + `ANTIVIRUS-TEST-FILE!$H+H*`
	spam  = `XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-` + `ANTI-UBE-TEST-EMAIL*C.34X`
)

// rspamdConf is rspamd without its rules, which take seconds to compile: the pattern that tests it is built in.
const rspamdConf = `options {
  control_socket = "$DBDIR/control.sock mode=0600";
  tempdir = "$DBDIR";
  hs_cache_dir = "$DBDIR/";
  url_tld = "$DBDIR/tld.dat";
  filters = "";
  disable_hyperscan = true;
}
logging { type = "console"; level = "notice"; }
lua = "$RULESDIR/rspamd.lua";
actions { reject = 15; add_header = 6; }
modules { path = "$PLUGINSDIR/milter_headers.lua"; }
milter_headers { use = ["x-spamd-bar", "x-spam-status"]; skip_local = false; }
worker "rspamd_proxy" {
  bind_socket = "127.0.0.1:11332";
  milter = yes;
  timeout = 120s;
  count = 1;
  upstream "local" { self_scan = yes; default = yes; }
}
`

// rspamd runs rspamd at 127.0.0.1:11332. Its processes are in a namespace that ends with the first of them.
func (s *site) rspamd() {
	s.t.Helper()
	dir := s.openDir("rspamd")
	proctest.Check(s.t, os.WriteFile(dir+"/rspamd.conf", []byte(rspamdConf), 0o644))
	proctest.Check(s.t, os.WriteFile(dir+"/tld.dat", []byte("org\nnet\n"), 0o644))
	argv := []string{"unshare", "--pid", "--fork", "--kill-child", "rspamd", "-f", "-i", "-u", "root", "-g", "root",
		"-c", dir + "/rspamd.conf"}
	for _, name := range []string{"RUNDIR", "DBDIR", "LOGDIR", "LOCAL_CONFDIR"} {
		argv = append(argv, "--var="+name+"="+dir)
	}
	p := s.daemon("rspamd", func() error { return s.dial("127.0.0.1:11332") }, argv...)
	s.t.Cleanup(func() { // all of it, before its folder
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.PID()))
		if err != nil {
			return // it has ended
		}
		if first, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && syscall.Kill(first, syscall.SIGKILL) == nil {
			_ = p.Wait() // it tells of the kill
		}
	})
}

// clamav gives starts of ClamAV's two daemons, which know one virus. The milter listens at a socket in the site's folder.
func (s *site) clamav() (clamd, milterd func() *proctest.Process) {
	s.t.Helper()
	db, scan, socket := s.path("clamdb"), s.path("clamd.sock"), s.path("milter.sock")
	proctest.Check(s.t, os.Mkdir(db, 0o755))
	s.write("clamdb/local.ndb", fmt.Sprintf("Test.Local:0:*:%x\n", virus))
	scanner := s.write("clamd.conf", fmt.Sprintf("LocalSocket %s\nDatabaseDirectory %s\nForeground yes\nTemporaryDirectory %s\n",
		scan, db, s.dir))
	filter := s.write("milter.conf", fmt.Sprintf(`MilterSocket unix:%s
ClamdSocket unix:%s
Foreground yes
TemporaryDirectory %s
OnInfected Reject
OnFail Defer
RejectMsg Virus %%v found
AddHeader Replace
`, socket, scan, s.dir))
	start := func(name, conf, socket string) func() *proctest.Process {
		return func() *proctest.Process {
			s.t.Helper()
			if err := os.Remove(socket); err != nil && !os.IsNotExist(err) { // of one that was killed
				s.t.Fatal(err)
			}
			return s.daemon(name, func() error {
				conn, err := net.Dial("unix", socket)
				if err == nil {
					err = conn.Close()
				}
				return err
			}, name, "-c", conf)
		}
	}
	return start("clamd", scanner, scan), start("clamav-milter", filter, socket)
}

const postProgram = `
import smtplib, sys
with smtplib.SMTP("mx.example.org", 25, timeout=120) as c:
    try:
        c.sendmail(sys.argv[1], [sys.argv[2]], open(sys.argv[3], "rb").read())
        print("250 taken")
    except smtplib.SMTPSenderRefused as e:
        print(e.smtp_code, e.smtp_error.decode())
    except smtplib.SMTPRecipientsRefused as e:
        print(*[f"{code} {said.decode()}" for code, said in e.recipients.values()])
    except smtplib.SMTPDataError as e:
        print(e.smtp_code, e.smtp_error.decode())
`

// post sends a message with Python's smtplib and gives the reply to it, or to its recipient: "250 taken" when it was taken.
func (s *site) post(from, to, message string) string {
	s.t.Helper()
	return strings.TrimSpace(s.python(postProgram, from, to, s.write("message", message)))
}

func TestFilters(t *testing.T) {
	s := newSite(t)
	s.more["smtp"] = fmt.Sprintf(`    milters:
      - {name: rspamd, addr: "127.0.0.1:11332"}
      - {name: clamav, addr: "unix:%s"}
`, s.path("milter.sock"))
	s.start()
	expect := func(what, message, code string) {
		t.Helper()
		if got := s.post(stranger, alice, message); !strings.HasPrefix(got, code+" ") {
			t.Errorf("%s: %s, want %s", what, got, code)
		}
	}
	expect("before the filters run", text("early"), "451")
	s.rspamd()
	clamd, milterd := s.clamav()
	clamd()
	filter := milterd()
	// clamav-milter looks for its clamd beside its work
	untilClean := func(subject string) {
		t.Helper()
		proctest.Eventually(t, "mail passes", func() bool { return strings.HasPrefix(s.post(stranger, alice, text(subject)), "250 ") })
	}
	untilClean("clean")
	expect("GTUBE", text("spam")+spam+"\r\n", "554")
	expect("EICAR", text("virus")+virus+"\r\n", "550")
	filter.Kill()
	expect("clamav-milter was killed", text("dead"), "451")
	milterd()
	untilClean("again")
	expect("EICAR after the recovery", text("virus")+virus+"\r\n", "550")

	got := s.read(alice)
	if len(got) != 2 {
		t.Fatalf("alice has %d messages, want the two clean ones: %q", len(got), got)
	}
	for i, subject := range []string{"clean", "again"} {
		head, body, _ := strings.Cut(got[i], "\r\n\r\n")
		_, sent, _ := strings.Cut(text(subject), "\r\n\r\n")
		if body != sent {
			t.Errorf("the body of %q came as %q", subject, body)
		}
		for _, field := range []string{
			"X-Spamd-Bar: ", "X-Spam-Status: No", "X-Virus-Scanned: ", "X-Virus-Status: Clean", "Subject: " + subject,
		} {
			if strings.Count("\r\n"+head, "\r\n"+field) != 1 {
				t.Errorf("field %s is not there once:\n%s", field, head)
			}
		}
	}
}
