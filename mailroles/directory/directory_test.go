package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// cheap is argon2id with little work, of the password "secret".
func cheap() string {
	p := phc{memory: 8, passes: 1, lanes: 1, salt: []byte("saltsalt")}
	p.sum = p.derive("secret", 32)
	return p.String()
}

func file(entries ...string) []byte {
	return []byte("mailboxes:\n" + strings.Join(entries, ""))
}

func entry(address, hash, lun string) string {
	return fmt.Sprintf("  - {address: %q, password: %q, lun: %s}\n", address, hash, lun)
}

func TestAuthenticate(t *testing.T) {
	b, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse("mailboxes.yml", file(entry("Alice@Example.org", cheap(), "lun-1"), entry("bob@example.org", string(b), "lun-2")), []string{"lun-1", "lun-2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		user, password, lun string
		want                error
	}{
		{"alice@example.org", "secret", "lun-1", nil},
		{"ALICE@EXAMPLE.ORG", "secret", "lun-1", nil},
		{"bob@example.org", "secret", "lun-2", nil},
		{"alice@example.org", "Secret", "", ErrLogin},
		{"alice@example.org", "", "", ErrLogin},
		{"bob@example.org", "secret2", "", ErrLogin},
		{"nobody@example.org", "secret", "", ErrLogin},
		{"alice@example.org", strings.Repeat("x", 5000), "", ErrLogin},
	} {
		m, err := d.Authenticate(t.Context(), tc.user, tc.password)
		if !errors.Is(err, tc.want) || m.LUN != tc.lun {
			t.Errorf("%s with %.10q: %q, %v; want %q, %v", tc.user, tc.password, m.LUN, err, tc.lun, tc.want)
		}
	}
	// an unknown user costs the same hash as a known one
	p, err := parsePHC(d.decoy)
	if err != nil || p.memory != 8 || p.passes != 1 {
		t.Errorf("decoy is %+v, %v; want the work of the first mailbox", p, err)
	}
	for range cap(d.slots) {
		d.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Authenticate(ctx, "alice@example.org", "secret"); !errors.Is(err, context.Canceled) {
		t.Errorf("with all slots taken: %v, want context.Canceled", err)
	}
}

func TestHashPassword(t *testing.T) {
	hash, err := HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := Check(hash, "secret"); !ok || err != nil {
		t.Errorf("own hash: %v, %v", ok, err)
	}
	if ok, err := Check(hash, "secreu"); ok || err != nil {
		t.Errorf("wrong password: %v, %v", ok, err)
	}
	for _, bad := range []string{"", "secret", "$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", "$2b$31$0123456789012345678901", "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA"} {
		if _, err := Check(bad, "secret"); !errors.Is(err, ErrHash) {
			t.Errorf("Check(%q): %v, want ErrHash", bad, err)
		}
	}
}

func TestBadFiles(t *testing.T) {
	many := make([]string, MaxPerLUN+1)
	for i := range many {
		many[i] = entry(fmt.Sprintf("u%d@example.org", i), cheap(), "lun-1")
	}
	for _, tc := range []struct {
		name, want string
		text       []byte
	}{
		{"address", `m.yml:2: mailboxes[0].address: "alice" is no mailbox address`, file(entry("alice", cheap(), "lun-1"))},
		{"path in address", "is no mailbox address", file(entry("../x@example.org", cheap(), "lun-1"))},
		{"twice", "m.yml:3: mailboxes[1].address: a@example.org is there twice", file(entry("a@example.org", cheap(), "lun-1"), entry("A@example.org", cheap(), "lun-1"))},
		{"clear password", "m.yml:2: mailboxes[0].password: no argon2id hash", file(entry("a@example.org", "hunter2", "lun-1"))},
		{"LUN", `m.yml:2: mailboxes[0].lun: no LUN is called "lun-9"; known are lun-1`, file(entry("a@example.org", cheap(), "lun-9"))},
		{"unknown key", "m.yml:2: mailboxes[0].quota: unknown key", []byte("mailboxes:\n  - {address: a@example.org, quota: 5}\n")},
		{"unknown section", `did you mean "mailboxes"?`, []byte("mailboxs: []\n")},
		{"too many", "m.yml:1002: mailboxes[1000]: LUN lun-1 has more than 1000 mailboxes", file(many...)},
	} {
		_, err := Parse("m.yml", tc.text, []string{"lun-1"})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the complaint repeats the password: %v", tc.name, err)
		}
	}
	if _, err := Parse("m.yml", file(many[:MaxPerLUN]...), []string{"lun-1"}); err != nil {
		t.Errorf("%d mailboxes: %v", MaxPerLUN, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(file(entry("alice@example.org", cheap(), "lun-1")))
	f.Add([]byte("mailboxes: []\n"))
	f.Add([]byte("mailboxes:\n- address: [x]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse("m.yml", text, []string{"lun-1"})
		if err != nil {
			return
		}
		for address, m := range d.boxes {
			if strings.ContainsAny(address, "/\x00") || strings.HasPrefix(address, ".") || m.LUN != "lun-1" || checkHash(m.Password) != nil {
				t.Fatalf("accepted %+v", m)
			}
		}
	})
}
