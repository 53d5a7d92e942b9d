package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"anycastle/internal/config"
	"anycastle/internal/mtlstest"
)

// peopleWithKeys is people, with keys of alice's password.
func peopleWithKeys(t *testing.T) (string, Keys) {
	t.Helper()
	keys, err := MakeKeys("secret")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(people, "@KEYS@", keys.text(), 1), keys
}

func TestLDAP(t *testing.T) {
	ldif, keys := peopleWithKeys(t)
	s := newSlapd(t, mtlstest.NewCA(t), ldif)
	s.start()
	starttls := s.config("ldap://" + s.plain.String())
	starttls.StartTLS = true
	for name, c := range map[string]LDAPConfig{
		"plain": s.config("ldap://" + s.plain.String()), "starttls": starttls,
		"ldaps": s.config("ldaps://" + s.secure.String()), "socket": s.config("ldapi://" + s.socket),
	} {
		t.Run(name, func(t *testing.T) {
			if err := config.Check("directory", func(at config.Cursor) { c.validate(at) }); err != nil {
				t.Fatal(err)
			}
			d := s.open(c)
			checkPeople(t, d)
			checkLogins(t, d)
			got, err := d.SCRAM(t.Context(), "ALICE@example.org")
			if err != nil || got.text() != keys.text() || !d.HasKeys() {
				t.Errorf("keys of alice are %+v, %v", got, err)
			}
			if _, err := d.SCRAM(t.Context(), "bob@example.org"); !errors.Is(err, ErrLogin) {
				t.Errorf("keys of bob, who has none: %v, want ErrLogin", err)
			}
			if s := d.Status(); s.Source != c.URLs[0] || s.Error != "" {
				t.Errorf("status is %+v", s)
			}
		})
	}
}

func checkPeople(t *testing.T, d *Directory) {
	t.Helper()
	alice, bob := Mailbox{"alice@example.org", "lun-1", Quota{Bytes: 5 << 30}, false}, Mailbox{Address: "bob@example.org", LUN: "lun-2"}
	broken := errors.New("any that is not ErrUnknown")
	for range 2 { // the second time what is remembered
		for _, tc := range []struct {
			from, to string
			want     []Mailbox
			err      error
		}{
			{"", "ALICE@example.org", []Mailbox{alice}, nil},
			{"", "alice+tag@example.org", []Mailbox{alice}, nil},
			{"", "Info@example.org", []Mailbox{alice}, nil},
			{"", "bob@example.org", []Mailbox{bob}, nil},
			{"", "all@example.org", []Mailbox{alice, bob}, nil},
			{"", "list@example.org", []Mailbox{alice, bob}, nil},
			{"", "inner@example.org", nil, ErrSender},
			{"alice@example.org", "inner@example.org", nil, ErrSender},
			{"bob@example.org", "inner@example.org", []Mailbox{bob}, nil},
			{"", "nobody@example.org", nil, ErrUnknown},
			{"", "alice@example.net", nil, ErrUnknown},
			{"", "*@example.org", nil, ErrUnknown},
			{"", "a*@example.org", nil, ErrUnknown},
			{"", "j\u00f6rg@example.org", nil, ErrUnknown},
			{"", "x)(mail=*@example.org", nil, ErrUnknown},
			{"", "lost@example.org", nil, broken},
			{"", "shared@example.org", nil, broken},
		} {
			got, err := d.ResolveFrom(t.Context(), tc.from, tc.to)
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("from %q to %q: %v, %v; want %v", tc.from, tc.to, got, err, tc.want)
			}
			if tc.err == broken && (err == nil || errors.Is(err, ErrUnknown)) || tc.err != broken && !errors.Is(err, tc.err) {
				t.Errorf("from %q to %q: %v; want %v", tc.from, tc.to, err, tc.err)
			}
		}
	}
	if m, err := d.Mailbox(t.Context(), "info@example.org"); !errors.Is(err, ErrUnknown) {
		t.Errorf("info is an alias: %v, %v", m, err)
	}
	for from, want := range map[string]bool{"alice@example.org": true, "alice+x@example.org": true, "info@example.org": true, "bob@example.org": false, "all@example.org": false} {
		if got, err := d.MaySend(t.Context(), alice, from); got != want || err != nil {
			t.Errorf("alice as %s: %v, %v; want %v", from, got, err, want)
		}
	}
}

func checkLogins(t *testing.T, d *Directory) {
	t.Helper()
	for _, tc := range []struct {
		user, password string
		err            error
	}{
		{"alice@example.org", "secret", nil},
		{"Alice@EXAMPLE.org", "secret", nil},
		{"bob@example.org", "bobs", nil},
		{"alice@example.org", "bobs", ErrLogin},
		{"alice@example.org", "", ErrLogin}, // to which slapd would say that it is well
		{"alice@example.org", "secret\x00", ErrLogin},
		{"info@example.org", "secret", ErrLogin},
		{"all@example.org", "secret", ErrLogin},
		{"nobody@example.org", "secret", ErrLogin},
		{"*@example.org", "secret", ErrLogin},
		{"alice", "secret", ErrLogin},
		{"cn=alice,dc=example,dc=org", "secret", ErrLogin},
	} {
		m, err := d.Authenticate(t.Context(), tc.user, tc.password)
		if !errors.Is(err, tc.err) || (err == nil) != (m.Address != "") {
			t.Errorf("%s with %q: %+v, %v; want %v", tc.user, tc.password, m, err, tc.err)
		}
	}
	// who has just logged in must not be who searches now
	if _, err := d.Resolve(t.Context(), "uncached-"+t.Name()+"@example.org"); err != nil && !errors.Is(err, ErrUnknown) {
		t.Errorf("a search after a login: %v", err)
	}
}

// RFC 4513 section 5.1.2: a bind with a name and no password is no login, and no server says so. That ours never sends one
// is checked where it would be sent, too.
func TestNoUnauthenticatedBind(t *testing.T) {
	ldif, _ := peopleWithKeys(t)
	s := newSlapd(t, mtlstest.NewCA(t), ldif)
	s.start()
	d := s.open(s.config("ldap://" + s.plain.String()))
	if _, err := d.ldap.login(t.Context(), "alice@example.org", ""); !errors.Is(err, ErrLogin) {
		t.Errorf("an empty password below Authenticate: %v, want ErrLogin", err)
	}
}

// away says whether an error is one of a directory that cannot tell now.
func away(err error) bool {
	return err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrLogin)
}

func TestLDAPAway(t *testing.T) {
	ldif, _ := peopleWithKeys(t)
	ca := mtlstest.NewCA(t)
	s := newSlapd(t, ca, ldif)
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprintf("frozen=%v", frozen), func(t *testing.T) {
			s.start()
			c := s.config("ldaps://" + s.secure.String())
			c.Cache, c.CacheUnknown, c.Timeout = 0, 0, time.Second
			d := s.open(c)
			c.Stale = 0
			never := s.open(c)
			for _, d := range []*Directory{d, never} {
				waitFor(t, "a login", func() bool { // a busy machine may not answer in time
					return second(d.Authenticate(t.Context(), "alice@example.org", "secret")) == nil
				})
				waitFor(t, "nobody is unknown", func() bool {
					return errors.Is(second(d.Resolve(t.Context(), "nobody@example.org")), ErrUnknown)
				})
			}
			if frozen {
				s.freeze(true)
			} else {
				s.stop()
			}
			checkAway(t, d, never)
			if frozen {
				s.freeze(false)
			} else {
				s.start()
			}
			waitFor(t, "logins again", func() bool {
				_, err := d.Authenticate(t.Context(), "alice@example.org", "secret")
				return err == nil
			})
			if st := d.Status(); st.Error != "" {
				t.Errorf("status is %+v", st)
			}
			s.stop()
		})
	}
}

// checkAway asks two directories while LDAP is away, of which one is never to give stale answers.
func checkAway(t *testing.T, d, never *Directory) {
	t.Helper()
	began := time.Now()
	if got, err := d.Resolve(t.Context(), "alice@example.org"); err != nil || len(got) != 1 {
		t.Errorf("a known recipient: %v, %v", got, err)
	}
	for what, err := range map[string]error{
		"a recipient that was unknown":   second(d.Resolve(t.Context(), "nobody@example.org")),
		"a recipient never asked about":  second(d.Resolve(t.Context(), "bob@example.org")),
		"a known recipient, never stale": second(never.Resolve(t.Context(), "alice@example.org")),
		"a login":                        second(d.Authenticate(t.Context(), "alice@example.org", "secret")),
		"a wrong login":                  second(d.Authenticate(t.Context(), "alice@example.org", "x")),
		"keys":                           second(d.SCRAM(t.Context(), "alice@example.org")),
		"the right to send":              second(d.MaySend(t.Context(), Mailbox{Address: "alice@example.org"}, "alice@example.org")),
	} {
		if !away(err) {
			t.Errorf("%s: %v, want an error that is neither ErrUnknown nor ErrLogin", what, err)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("eight questions took %v", took)
	}
	if st := d.Status(); st.Error == "" || strings.Contains(st.Error, "\n") || st.Stale != 1 {
		t.Errorf("status is %+v; want an error of one line", st)
	}
}

// A server that does not have the base, or does not show it, as one that has just been set up or has lost a right, cannot tell
// who is unknown: mail is to wait.
func TestLDAPWithoutBase(t *testing.T) {
	ldif, _ := peopleWithKeys(t)
	s := newSlapd(t, mtlstest.NewCA(t), ldif)
	s.start()
	for what, change := range map[string]func(*LDAPConfig){
		"not there": func(c *LDAPConfig) { c.Base = "ou=gone,dc=example,dc=org" },
		"not shown": func(c *LDAPConfig) { c.BindDN, c.PasswordFile = "", "" },
	} {
		c := s.config("ldap://" + s.plain.String())
		change(&c)
		d := s.open(c)
		if _, err := d.Resolve(t.Context(), "alice@example.org"); !away(err) || !strings.Contains(err.Error(), c.Base) {
			t.Errorf("%s: %v, want an error that is not ErrUnknown, with the base", what, err)
		}
		if _, err := d.Authenticate(t.Context(), "alice@example.org", "secret"); !away(err) {
			t.Errorf("%s: a login gives %v, want an error that is not ErrLogin", what, err)
		}
		if st := d.Status(); !strings.Contains(st.Error, c.Base) {
			t.Errorf("%s: status is %+v, want the error", what, st)
		}
	}
}

// A right that is taken away is gone at once, whatever is remembered of recipients.
func TestLDAPRightsAreNotRemembered(t *testing.T) {
	ldif, _ := peopleWithKeys(t)
	s := newSlapd(t, mtlstest.NewCA(t), ldif)
	s.start()
	d := s.open(s.config("ldap://" + s.plain.String()))
	alice := Mailbox{Address: "alice@example.org"}
	if may, err := d.MaySend(t.Context(), alice, "info@example.org"); !may || err != nil {
		t.Fatalf("%v, %v", may, err)
	}
	admin, err := ldap.DialURL("ldap://" + s.plain.String())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	change := ldap.NewModifyRequest("cn=alice,dc=example,dc=org", nil)
	change.Delete("mailLocalAddress", []string{"info@example.org"})
	change.Delete("scramKeys", nil)
	if err := errors.Join(admin.Bind("cn=root,dc=example,dc=org", "root secret"), admin.Modify(change)); err != nil {
		t.Fatal(err)
	}
	if may, err := d.MaySend(t.Context(), alice, "info@example.org"); may || err != nil {
		t.Errorf("after the change it may send: %v, %v", may, err)
	}
	if _, err := d.SCRAM(t.Context(), "alice@example.org"); !errors.Is(err, ErrLogin) {
		t.Errorf("after the change it has keys: %v", err)
	}
	if got, err := d.Resolve(t.Context(), "all@example.org"); err != nil || len(got) != 2 {
		t.Errorf("recipients: %v, %v", got, err)
	}
}

func second[T any](_ T, err error) error { return err }

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestLDAPFailOver(t *testing.T) {
	ldif, _ := peopleWithKeys(t)
	ca := mtlstest.NewCA(t)
	a, b := newSlapd(t, ca, ldif), newSlapd(t, ca, ldif)
	a.start()
	b.start()
	c := a.config("ldaps://"+a.secure.String(), "ldaps://"+b.secure.String())
	c.Cache, c.CacheUnknown, c.Stale, c.Timeout = 0, 0, 0, time.Second
	d := a.open(c)
	ask := func(server *slapd) {
		t.Helper()
		if _, err := d.Resolve(t.Context(), "alice@example.org"); err != nil {
			t.Errorf("resolve: %v", err)
		}
		if _, err := d.Authenticate(t.Context(), "alice@example.org", "secret"); err != nil {
			t.Errorf("login: %v", err)
		}
		if got := d.Status().Source; got != "ldaps://"+server.secure.String() {
			t.Errorf("%s answers, want %s", got, server.secure)
		}
	}
	ask(a)
	a.stop() // the connections to it are left behind
	ask(b)
	a.start()
	b.stop()
	ask(a)
}

func TestLDAPCountsMailboxes(t *testing.T) {
	ldif, _ := peopleWithKeys(t)
	var b strings.Builder
	b.WriteString(ldif)
	for i := range MaxPerLUN {
		fmt.Fprintf(&b, "\ndn: cn=u%d,dc=example,dc=org\nobjectClass: inetOrgPerson\nobjectClass: inetLocalMailRecipient\ncn: u%d\nsn: U\nmail: u%d@example.org\nmailHost: lun-1\n", i, i, i)
	}
	s := newSlapd(t, mtlstest.NewCA(t), b.String())
	s.start()
	c := s.config("ldap://" + s.plain.String())
	c.Cache = time.Second
	d := s.open(c)
	ch := d.Changed()
	stop := run(t, d)
	if _, err := d.ldap.mailboxes(t.Context(), "lun-1"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a count", func() bool { return d.Status().Error != "" })
	if got := d.Status().Error; !strings.Contains(got, "more than 1000 mailboxes in LDAP on LUN lun-1;") {
		t.Errorf("status says %q", got)
	}
	select {
	case <-ch:
	case <-time.After(patience):
		t.Error("nobody is told that answers may have changed")
	}
	stop()
	for lun, want := range map[string]int{"lun-1": MaxPerLUN + 1, "lun-2": 1, "lun-3": 0} {
		if n, err := d.ldap.mailboxes(t.Context(), lun); min(n, MaxPerLUN+1) != want || err != nil {
			t.Errorf("%s has %d, %v; want %d", lun, n, err, want)
		}
	}
}

// No more connections are opened than are asked for, and who gives up does not wait for one.
func TestLDAPPoolIsBounded(t *testing.T) {
	ldif, _ := peopleWithKeys(t)
	s := newSlapd(t, mtlstest.NewCA(t), ldif)
	s.start()
	c := s.config("ldap://" + s.plain.String())
	c.Connections = 1
	d := s.open(c)
	inside, leave, left := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		left <- d.ldap.search.do(t.Context(), func(*ldap.Conn) error {
			close(inside)
			<-leave
			return nil
		})
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Resolve(ctx, "alice@example.org"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with the only connection taken: %v, want that it takes too long", err)
	}
	close(leave)
	if err := <-left; err != nil {
		t.Error(err)
	}
	if _, err := d.Resolve(t.Context(), "alice@example.org"); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.Resolve(t.Context(), "bob@example.org"); !away(err) {
		t.Errorf("after Close: %v", err)
	}
}
