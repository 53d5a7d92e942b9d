package mailtest

import (
	"fmt"
	"net"
	"net/netip"
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
	t     testing.TB
	ns    *netnstest.NS
	dir   string
	tls   mtls.Files
	roles map[string]*proctest.Process
	smtp  string // more keys of the smtp section, each on a line with its indentation
}

// listens says where each role takes clients first, by the name of its process.
var listens = map[string]string{
	"smtp": "127.0.0.1:25", "imap": "127.0.0.1:143", "store-east": "127.0.0.11:2424", "store-west": "127.0.0.12:2424",
}

// newSite makes a site of which nothing runs yet.
func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, ns: netnstest.New(t), dir: t.TempDir(), roles: map[string]*proctest.Process{}}
	s.tls = mtlstest.NewCA(t).Node(t, "node")
	for _, sub := range []string{"east", "west", "home"} {
		proctest.Check(t, os.Mkdir(s.path(sub), 0o700))
	}
	s.write("hosts", "127.0.0.1 localhost "+host+"\n")
	s.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
	s.write("mailboxes.yml", "mailboxes:\n"+s.mailbox(alice, "lun-east")+s.mailbox(bob, "lun-west"))
	return s
}

// start runs the whole site, stores first, and waits until all take clients.
func (s *site) start() {
	s.t.Helper()
	for _, name := range []string{"store-east", "store-west", "smtp", "imap"} {
		s.startRole(name)
	}
}

// startRole runs one of the site's processes and waits until it takes clients.
func (s *site) startRole(name string) {
	s.t.Helper()
	role, _, _ := strings.Cut(name, "-")
	s.write(name+".yml", s.node(name))
	run := s.path("run-" + name)
	proctest.Check(s.t, os.MkdirAll(run, 0o700))
	p := proctest.Start(s.t, s.ns, name, s.dir, binary, "mail", role, "--config", s.path(name+".yml"), "--run-dir", run)
	s.roles[name] = p
	proctest.Eventually(s.t, name+" listens", func() bool {
		if p.Ended() {
			s.t.Fatalf("%s has ended:\n%s", name, p.Log())
		}
		return s.dial(listens[name]) == nil
	})
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
	text := fmt.Sprintf(`mail:
  hostname: %s
  directory: %s
  tls: {cert: %s, key: %s, ca: %s}
  luns:
    - {name: lun-east, lmtp: 127.0.0.11:2424, imap: 127.0.0.11:1993}
    - {name: lun-west, lmtp: 127.0.0.12:2424, imap: 127.0.0.12:1993}
`, host, s.path("mailboxes.yml"), s.tls.Cert, s.tls.Key, s.tls.CA)
	switch name {
	case "smtp":
		return text + "  smtp:\n    listen: [\"127.0.0.1:25\"]\n" + s.smtp
	case "imap":
		return text + "  imap:\n    listen: [\"127.0.0.1:143\"]\n    tls_listen: [\"127.0.0.1:993\"]\n"
	}
	lun := strings.TrimPrefix(name, "store-")
	at := map[string]netip.Addr{"east": netip.MustParseAddr("127.0.0.11"), "west": netip.MustParseAddr("127.0.0.12")}[lun]
	return text + fmt.Sprintf("  store: {lun: lun-%s, path: %s, lmtp_listen: \"%v:2424\", imap_listen: \"%v:1993\"}\n",
		lun, s.path(lun), at, at)
}

// mailbox gives an entry of the mailboxes file.
func (s *site) mailbox(address, lun string) string {
	s.t.Helper()
	cmd := exec.Command(binary, "mail", "hash-password")
	cmd.Stdin = strings.NewReader(password + "\n")
	hash, err := cmd.Output()
	proctest.Check(s.t, err)
	return fmt.Sprintf("  - {address: %s, password: %q, lun: %s}\n", address, strings.TrimSpace(string(hash)), lun)
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// write puts a file into the site's folder and gives its path.
func (s *site) write(name, text string) string {
	s.t.Helper()
	proctest.Check(s.t, os.WriteFile(s.path(name), []byte(text), 0o600))
	return s.path(name)
}

// try runs a client in the namespace, which finds the site by its name, and gives what it says.
func (s *site) try(argv ...string) (said string, err error) {
	s.t.Helper()
	const wrap = `mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf &&
		export HOME="$0/home" && cd "$HOME" && exec "$@"`
	argv = append([]string{"unshare", "--mount", "sh", "-c", wrap, s.dir}, argv...)
	p := proctest.Start(s.t, s.ns, argv[6], s.dir, argv...)
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
