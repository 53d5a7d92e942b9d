package directory

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"anycastle/internal/mtlstest"
)

// The next server is asked instead of one that takes connections and does not answer, also where none is needed to begin one.
func TestLDAPFailOverFromASilentServer(t *testing.T) {
	ldif, _ := peopleWithKeys(t)
	s := newSlapd(t, mtlstest.NewCA(t), ldif)
	s.start()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := s.config("ldap://"+ln.Addr().String(), "ldap://"+s.plain.String())
	c.Timeout = 2 * time.Second
	d := s.open(c)
	for range 2 { // the second time the silent one is avoided
		if _, err := d.Resolve(t.Context(), "alice@example.org"); err != nil {
			t.Errorf("resolve: %v", err)
		}
		if _, err := d.Authenticate(t.Context(), "alice@example.org", "secret"); err != nil {
			t.Errorf("login: %v", err)
		}
	}
}

// What stands in the way of TLS is an error, and not an answer.
func TestLDAPOverTLSOnly(t *testing.T) {
	ldif, _ := peopleWithKeys(t)
	s := newSlapd(t, mtlstest.NewCA(t), ldif)
	s.start()
	other := mtlstest.NewCA(t).Node(t, "other")
	for name, url := range map[string]string{"ldaps": "ldaps://" + s.secure.String(), "starttls": "ldap://" + s.plain.String()} {
		for what, change := range map[string]func(*LDAPConfig){
			"another CA":   func(c *LDAPConfig) { c.CA = other.CA },
			"another name": func(c *LDAPConfig) { c.URLs[0] = strings.Replace(c.URLs[0], "127.0.0.1", "localhost", 1) },
		} {
			c := s.config(url)
			c.StartTLS = name == "starttls"
			change(&c)
			d := s.open(c)
			if _, err := d.Authenticate(t.Context(), "alice@example.org", "secret"); !away(err) || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("%s, %s: %v, want an error of certificates", name, what, err)
			}
		}
	}
	// a server that takes the connection and says nothing
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for name, url := range map[string]string{"ldaps": "ldaps://" + ln.Addr().String(), "starttls": "ldap://" + ln.Addr().String()} {
		c := s.config(url)
		c.StartTLS, c.Timeout = name == "starttls", 200*time.Millisecond
		began := time.Now()
		if _, err := s.open(c).Resolve(t.Context(), "alice@example.org"); !away(err) || time.Since(began) > 5*time.Second {
			t.Errorf("%s, silent server: %v after %v", name, err, time.Since(began))
		}
	}
	c := s.config("ldap://" + s.plain.String())
	if err := os.WriteFile(c.PasswordFile, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.open(c).Authenticate(t.Context(), "alice@example.org", "secret")
	if !away(err) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong password of who searches: %v, want an error that is not the user's, without the password", err)
	}
}
