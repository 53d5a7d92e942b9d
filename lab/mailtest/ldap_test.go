package mailtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"anycastle/internal/proctest"
)

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/misc.schema
attributetype ( 1.3.6.1.4.1.32473.1.3 NAME 'takesFrom' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.32473.2.1 NAME 'mailThings' SUP top AUXILIARY MAY ( takesFrom $ mail ) )
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile DIR/slapd.pid
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=anycastle,dc=example,dc=org" read by * none
database mdb
suffix dc=example,dc=org
directory DIR/ldap
index mail,mailLocalAddress,mailHost eq,pres
`

const slapdPeople = `dn: dc=example,dc=org
objectClass: domain
dc: example

dn: cn=anycastle,dc=example,dc=org
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: anycastle
userPassword: search-secret

dn: cn=alice,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: alice
sn: A
mail: alice@example.org
mailLocalAddress: info@example.org
mailHost: lun-east
userPassword: PASSWORD

dn: cn=bob,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: bob
sn: B
mail: bob@example.org
mailHost: lun-west
userPassword: PASSWORD

dn: cn=carol,dc=example,dc=org
objectClass: inetOrgPerson
objectClass: inetLocalMailRecipient
cn: carol
sn: C
mail: carol@example.org
mailHost: lun-west
userPassword: PASSWORD

dn: cn=all,dc=example,dc=org
objectClass: groupOfNames
objectClass: mailThings
cn: all
mail: all@example.org
member: cn=alice,dc=example,dc=org
member: cn=bob,dc=example,dc=org
`

// slapd has the site's directory be an LDAP server, of which it gives a start.
func (s *site) slapd() (start func() *proctest.Process) {
	s.t.Helper()
	conf := s.write("slapd.conf", strings.ReplaceAll(slapdConf, "DIR", s.dir))
	people := s.write("people.ldif", strings.ReplaceAll(slapdPeople, "PASSWORD", password))
	proctest.Check(s.t, os.Mkdir(s.path("ldap"), 0o700))
	if out, err := exec.Command("/usr/sbin/slapadd", "-q", "-f", conf, "-l", people).CombinedOutput(); err != nil {
		s.t.Fatalf("slapadd: %v\n%s", err, out)
	}
	s.directory = `{ldap: {urls: ["ldap://127.0.0.1:389"], base: "dc=example,dc=org", domains: [example.org], ` +
		`bind_dn: "cn=anycastle,dc=example,dc=org", password_file: ` + s.write("ldap.password", "search-secret\n") +
		`, attributes: {from: takesFrom}}}`
	return func() *proctest.Process {
		s.t.Helper()
		return s.daemon("slapd", func() error { return s.dial("127.0.0.1:389") },
			"/usr/sbin/slapd", "-d", "0", "-h", "ldap://127.0.0.1:389", "-f", conf)
	}
}

const loginProgram = `
import imaplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
c = imaplib.IMAP4_SSL("mx.example.org", 993, ssl_context=context, timeout=60)
try:
    c.login(sys.argv[2], sys.argv[3])
    print("OK")
except imaplib.IMAP4.error as e:
    print("NO", e)
`

// login gives what the IMAP front end says of a login.
func (s *site) login(user, secret string) string {
	s.t.Helper()
	return strings.TrimSpace(s.python(loginProgram, s.tls.CA, user, secret))
}

func TestLDAP(t *testing.T) {
	s := newSite(t)
	start := s.slapd()
	server := start()
	s.start()
	for to, want := range map[string]string{
		alice: "250 ", "info@example.org": "250 ", "all@example.org": "250 ", "none@example.org": "550 5.1.1",
	} {
		if said := s.post(stranger, to, text(to)); !strings.HasPrefix(said, want) {
			t.Errorf("to %s: %s, want %s", to, said, want)
		}
	}
	if got := s.read(alice); len(got) != 3 {
		t.Errorf("alice has %d messages, want those to her, her alias and her group", len(got))
	}
	if got := s.read(bob); len(got) != 1 || !strings.Contains(got[0], "Subject: all@example.org") {
		t.Errorf("bob has %q, want what went to his group", got)
	}
	if said := s.login(alice, "wrong"); !strings.Contains(said, "AUTHENTICATIONFAILED") {
		t.Errorf("login with a wrong password: %s", said)
	}
	file := s.write("mail", submitted("by-ldap", bob))
	s.must(s.swaks("587", "--tls", "PLAIN", password, alice, bob, file)...)
	if said, err := s.try(s.swaks("587", "--tls", "PLAIN", password, bob, alice, file)...); err == nil {
		t.Errorf("alice sends as bob:\n%s", said)
	}

	// whom nobody can be asked about is not said to be unknown
	server.Kill()
	for _, to := range []string{"carol@example.org", "other@example.org"} {
		if said := s.post(stranger, to, text("away")); !strings.HasPrefix(said, "451 ") {
			t.Errorf("without slapd, to %s: %s, want 451", to, said)
		}
	}
	if said := s.login("carol@example.org", password); !strings.Contains(said, "UNAVAILABLE") {
		t.Errorf("login without slapd: %s", said)
	}
	said, err := s.try(s.swaks("465", "--tls-on-connect", "PLAIN", password, alice, bob, file)...)
	if err == nil || !strings.Contains(said, " 454 ") {
		t.Errorf("submission without slapd, want 454: %v\n%s", err, said)
	}
	start()
	proctest.Eventually(t, "slapd is asked again", func() bool {
		return s.post(stranger, "carol@example.org", text("back")) == "250 taken" && s.login("carol@example.org", password) == "OK"
	})
	if said := s.post(stranger, "other@example.org", text("back")); !strings.HasPrefix(said, "550 5.1.1") {
		t.Errorf("with slapd again, to nobody: %s", said)
	}
}
