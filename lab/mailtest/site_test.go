package mailtest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
)

// People of the site. Each has its mail on a LUN of its own.
const (
	alice    = "alice@example.org" // on lun-east
	bob      = "bob@example.org"   // on lun-west
	stranger = "x@example.net"
	password = "correct-horse-battery"
	host     = "mx.example.org" // what the certificate and the hosts file say of 127.0.0.1
)

// site is a front end of each kind and a store for each LUN, all on loopback of one namespace.
type site struct {
	t         testing.TB
	ns        *netnstest.NS
	dir       string
	tls       mtls.Files
	roles     map[string]*proctest.Process
	directory string            // what the key directory says
	more      map[string]string // more keys of a role's section, each on a line with its indentation
	flags     []string          // of every role
}

// listens says where each role takes clients first, by the name of its process.
var listens = map[string]string{
	"gss": "127.0.0.1:53", "smtp": "127.0.0.1:25", "submission": "127.0.0.1:587", "imap": "127.0.0.1:143",
	"store-east": "127.0.0.11:2424", "store-west": "127.0.0.12:2424",
}

// newSite makes a site of which nothing runs yet.
func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, ns: netnstest.New(t), dir: t.TempDir(), roles: map[string]*proctest.Process{}, more: map[string]string{}}
	ca := mtlstest.NewCA(t)
	ca.Names = []string{host, "mta-sts.example.org"}
	s.tls = ca.Node(t, "node")
	for _, sub := range []string{"east", "west", "home"} {
		proctest.Check(t, os.Mkdir(s.path(sub), 0o700))
	}
	s.write("hosts", "127.0.0.1 localhost "+host+" mta-sts.example.org\n")
	s.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
	s.directory = s.path("mailboxes.yml")
	s.addUser(alice, "lun-east")
	s.addUser(bob, "lun-west")
	return s
}

// start runs the whole site, stores first, and waits until all take clients.
func (s *site) start() {
	s.t.Helper()
	for _, name := range []string{"store-east", "store-west", "smtp", "submission", "imap"} {
		s.startRole(name)
	}
}

// startRole runs one of the site's processes and waits until it takes clients.
func (s *site) startRole(name string) {
	s.t.Helper()
	role, _, _ := strings.Cut(name, "-")
	argv := []string{binary, "mail", role}
	if role == "gss" {
		argv = []string{binary, role}
	}
	s.write(name+".yml", s.node(name))
	run := s.path("run-" + name)
	proctest.Check(s.t, os.MkdirAll(run, 0o700))
	argv = append(append(argv, "--config", s.path(name+".yml"), "--run-dir", run), s.flags...)
	s.roles[name] = s.daemon(name, func() error { return s.dial(listens[name]) }, argv...)
}

// daemon runs a program and waits until it is ready.
func (s *site) daemon(name string, ready func() error, argv ...string) *proctest.Process {
	s.t.Helper()
	p := proctest.Start(s.t, s.ns, name, s.dir, argv...)
	proctest.Eventually(s.t, name+" listens", func() bool {
		if p.Ended() {
			s.t.Fatalf("%s has ended:\n%s", name, p.Log())
		}
		return ready() == nil
	})
	return p
}

// dial says whether something listens at an address of the namespace.
func (s *site) dial(address string) (err error) {
	s.ns.Do(func() error {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", address, time.Second); err == nil {
			conn.Close()
		}
		return nil
	})
	return err
}

// node gives the node file of one process.
func (s *site) node(name string) string {
	if name == "gss" {
		return s.zones()
	}
	text := fmt.Sprintf(`mail:
  hostname: %s
  directory: %s
  tls: {cert: %s, key: %s, ca: %s}
  luns:
    - {name: lun-east, lmtp: 127.0.0.11:2424, imap: 127.0.0.11:1993, queue: 127.0.0.11:2425}
    - {name: lun-west, lmtp: 127.0.0.12:2424, imap: 127.0.0.12:1993, queue: 127.0.0.12:2425}
`, host, s.directory, s.tls.Cert, s.tls.Key, s.tls.CA)
	role, lun, _ := strings.Cut(name, "-")
	switch role {
	case "smtp":
		text += "  smtp:\n    listen: [\"127.0.0.1:25\"]\n"
	case "submission":
		text += "  submission:\n    listen: [\"127.0.0.1:587\"]\n    tls_listen: [\"127.0.0.1:465\"]\n"
	case "imap":
		text += "  imap:\n    listen: [\"127.0.0.1:143\"]\n    tls_listen: [\"127.0.0.1:993\"]\n"
	case "store":
		at := map[string]string{"east": "127.0.0.11", "west": "127.0.0.12"}[lun]
		text += fmt.Sprintf("  store:\n    lun: lun-%s\n    path: %s\n    lmtp_listen: %q\n    imap_listen: %q\n    queue_listen: %q\n"+
			"    queue: {resolvers: [127.0.0.1:53]}\n", lun, s.path(lun), at+":2424", at+":1993", at+":2425")
	}
	return text + s.more[role]
}

// addUser adds a mailbox to the mailboxes file.
func (s *site) addUser(address, lun string) {
	s.t.Helper()
	cmd := exec.Command(binary, "mail", "user", "add", address, "--lun", lun, "--password-stdin", "--file", s.path("mailboxes.yml"))
	cmd.Stdin = strings.NewReader(password + "\n")
	if said, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("mail user add: %v\n%s", err, said)
	}
}

// show gives what the process of a role says of a noun, as JSON.
func (s *site) show(name, noun string, into any) {
	s.t.Helper()
	said := s.must(binary, "show", noun, "-o", "json", "--run-dir", s.path("run-"+name))
	if err := json.Unmarshal([]byte(said), into); err != nil {
		s.t.Fatalf("show %s: %v\n%s", noun, err, said)
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// write puts a file into the site's folder and gives its path.
func (s *site) write(name, text string) string {
	s.t.Helper()
	proctest.Check(s.t, os.WriteFile(s.path(name), []byte(text), 0o600))
	return s.path(name)
}

// run starts a client in the namespace, which finds the site by its name.
func (s *site) run(argv ...string) *proctest.Process {
	s.t.Helper()
	const wrap = `mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf &&
		export HOME="$0/home" && cd "$HOME" && exec "$@"`
	argv = append([]string{"unshare", "--mount", "sh", "-c", wrap, s.dir}, argv...)
	return proctest.Start(s.t, s.ns, argv[6], s.dir, argv...)
}

// try runs a client to its end and gives what it says.
func (s *site) try(argv ...string) (said string, err error) {
	s.t.Helper()
	p := s.run(argv...)
	err = p.Wait()
	return p.Log().String(), err
}

// must is try for a client that has to succeed.
func (s *site) must(argv ...string) string {
	s.t.Helper()
	said, err := s.try(argv...)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", argv[0], err, said)
	}
	return said
}

// python runs a program of Python's in the namespace. It must succeed.
func (s *site) python(program string, args ...string) string {
	s.t.Helper()
	file := s.write("program.py", program)
	return s.must(append([]string{"python3", file}, args...)...)
}
