package directory

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/porttest"
	"anycastle/internal/proctest"
)

// patience bounds every wait for slapd.
const patience = 30 * time.Second

// slapd is Debian's LDAP server with a directory of its own, on loopback.
type slapd struct {
	t                  *testing.T
	dir                string
	plain, secure      netip.AddrPort
	socket             string
	tls                mtls.Files
	cmd                *exec.Cmd
	done               chan struct{} // closed when it has ended
	log                proctest.Transcript
	binary, addProgram string
}

// slapdConf has Debian's own schema for all but three attributes, of which it has none.
const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/misc.schema
attributetype ( 1.3.6.1.4.1.32473.1.1 NAME 'quotaSize' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.32473.1.2 NAME 'scramKeys' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
attributetype ( 1.3.6.1.4.1.32473.1.3 NAME 'takesFrom' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.32473.2.1 NAME 'mailThings' SUP top AUXILIARY MAY ( quotaSize $ scramKeys $ takesFrom $ mail ) )
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile @DIR@/slapd.pid
TLSCACertificateFile @CA@
TLSCertificateFile @CERT@
TLSCertificateKeyFile @KEY@
access to attrs=userPassword,scramKeys by dn.exact="cn=anycastle,dc=example,dc=org" read by anonymous auth by * none
access to * by dn.exact="cn=anycastle,dc=example,dc=org" read by * none
database mdb
suffix dc=example,dc=org
rootdn cn=root,dc=example,dc=org
rootpw "root secret"
directory @DIR@/db
limits dn.exact="cn=anycastle,dc=example,dc=org" size=unlimited
index mail,mailLocalAddress,mailHost eq,pres
`

const people = `dn: dc=example,dc=org
objectClass: domain
dc: example

dn: cn=anycastle,dc=example,dc=org
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: anycastle
userPassword: search secret

dn: cn=alice,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
objectClass: mailThings
cn: alice
sn: A
mail: Alice@Example.org
mailLocalAddress: info@example.org
mailLocalAddress: o'b(r)ien*@example.org
mailHost: lun-1
quotaSize: 5G
scramKeys: @KEYS@
userPassword: secret

dn: cn=bob (the second)\, jr,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: bob (the second), jr
sn: B
mail: bob@example.org
mailHost: lun-2
userPassword: bobs

dn: cn=lost,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: lost
sn: L
mail: lost@example.org
mailHost: lun-9
userPassword: secret

dn: cn=two,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: two
sn: T
mail: two@example.org
mailLocalAddress: shared@example.org
mailHost: lun-1
userPassword: secret

dn: cn=three,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: three
sn: T
mail: three@example.org
mailLocalAddress: shared@example.org
mailHost: lun-1
userPassword: secret

dn: cn=inner,dc=example,dc=org
objectClass: groupOfNames
objectClass: inetLocalMailRecipient
objectClass: mailThings
cn: inner
mailLocalAddress: inner@example.org
takesFrom: members
member: cn=bob (the second)\, jr,dc=example,dc=org
member: cn=nobody there,dc=example,dc=org

dn: cn=all,dc=example,dc=org
objectClass: groupOfNames
objectClass: mailThings
cn: all
mail: all@example.org
member: cn=alice,dc=example,dc=org
member: cn=inner,dc=example,dc=org
member: cn=all,dc=example,dc=org

dn: cn=list,dc=example,dc=org
objectClass: nisMailAlias
objectClass: mailThings
cn: list
mail: list@example.org
rfc822MailMember: info@example.org
rfc822MailMember: bob@example.org
rfc822MailMember: gone@example.org
rfc822MailMember: far@example.net
`

// newSlapd makes a server with the entries of an LDIF; start starts it.
func newSlapd(t *testing.T, ca *mtlstest.CA, ldif string) *slapd {
	t.Helper()
	s := &slapd{t: t, dir: t.TempDir(), tls: ca.Node(t, "slapd")}
	for name, into := range map[string]*string{"slapd": &s.binary, "slapadd": &s.addProgram} {
		path, err := exec.LookPath("/usr/sbin/" + name)
		if err != nil {
			t.Fatalf("%v; `make packages` installs it", err)
		}
		*into = path
	}
	s.socket = filepath.Join(s.dir, "socket")
	s.plain, s.secure = porttest.Free(t, "127.0.0.1"), porttest.Free(t, "127.0.0.1")
	conf := strings.NewReplacer("@DIR@", s.dir, "@CA@", s.tls.CA, "@CERT@", s.tls.Cert, "@KEY@", s.tls.Key).Replace(slapdConf)
	for name, text := range map[string]string{"slapd.conf": conf, "people.ldif": ldif} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(s.dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	add := exec.Command(s.addProgram, "-q", "-f", filepath.Join(s.dir, "slapd.conf"), "-l", filepath.Join(s.dir, "people.ldif"))
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("slapd says:\n%s", s.log.String())
		}
	})
	return s
}

// start runs the server until the test ends, or stop.
func (s *slapd) start() {
	s.t.Helper()
	urls := fmt.Sprintf("ldap://%s ldaps://%s ldapi://%s", s.plain, s.secure, strings.ReplaceAll(s.socket, "/", "%2F"))
	s.cmd = exec.Command(s.binary, "-d", "0", "-h", urls, "-f", filepath.Join(s.dir, "slapd.conf"))
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.done = make(chan struct{})
	done, cmd := s.done, s.cmd
	go func() {
		defer close(done)
		_ = cmd.Wait() // it is stopped by a signal
	}()
	s.t.Cleanup(s.stop)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.secure.String())
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-s.done:
			s.t.Fatalf("slapd has ended:\n%s", s.log.String())
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("slapd does not listen: %v\n%s", err, s.log.String())
		}
	}
}

// stop ends the server at once.
func (s *slapd) stop() {
	select {
	case <-s.done:
	default:
		_ = s.cmd.Process.Kill() // it may end at this moment
		<-s.done
	}
}

// freeze has the server stand still, as one whose machine is gone. On a busy machine some of its threads may go on for a while after
// the signal, so it waits for all.
func (s *slapd) freeze(on bool) {
	s.t.Helper()
	sig := syscall.SIGCONT
	if on {
		sig = syscall.SIGSTOP
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
	if on {
		waitFor(s.t, "slapd stands still", s.still)
	}
}

// still says whether all threads of the server are stopped (proc_pid_stat(5)).
func (s *slapd) still() bool {
	s.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(text[bytes.LastIndexByte(text, ')')+1:], []byte(" T ")) {
			return false // or it has just ended
		}
	}
	return len(threads) > 0
}

// config is that of a directory that asks the server at the URLs.
func (s *slapd) config(urls ...string) LDAPConfig {
	s.t.Helper()
	var c LDAPConfig
	c.SetDefaults()
	c.URLs, c.Base, c.BindDN, c.Domains = urls, "dc=example,dc=org", "cn=anycastle,dc=example,dc=org", []string{"Example.org"}
	c.PasswordFile, c.CA = filepath.Join(s.dir, "password"), s.tls.CA
	c.Attributes.QuotaSize, c.Attributes.SCRAM, c.Attributes.From = "quotaSize", "scramKeys", "takesFrom"
	if err := os.WriteFile(c.PasswordFile, []byte("search secret\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// open makes the directory of a config.
func (s *slapd) open(c LDAPConfig) *Directory {
	s.t.Helper()
	d, err := Open(Config{LDAP: &c}, []string{"lun-1", "lun-2"}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := d.Close(); err != nil {
			s.t.Errorf("close: %v", err)
		}
	})
	return d
}
