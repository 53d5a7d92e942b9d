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

// boxes is a file with one mailbox at example.org, what its entry has besides, and further lines.
func boxes(local, more string, lines ...string) []byte {
	text := fmt.Sprintf("mailboxes:\n  - {address: %s@example.org, password: %q, lun: lun-1,\n     %s\n    }\n", local, cheap(), more)
	return []byte(text + strings.Join(lines, "\n") + "\n")
}

// nested is groups of which the last has all others, which lead through a hundred entries each.
func nested(n int) []byte {
	text := fmt.Sprintf("mailboxes:\n  - {address: a@example.org, password: %q, lun: lun-1}\n", cheap()) + "groups:\n"
	for i := range n {
		members := "a@example.org"
		for j := range i {
			members += fmt.Sprintf(", g%d@example.org", j)
		}
		if i < n-1 {
			members = "a@example.org" + strings.Repeat(", a@example.org", 100)
		}
		text += fmt.Sprintf("  - {address: g%d@example.org, members: [%s]}\n", i, members)
	}
	return []byte(text)
}

func line(address, hash, lun string) string {
	return fmt.Sprintf("  - {address: %q, password: %q, lun: %s}\n", address, hash, lun)
}

func TestAuthenticate(t *testing.T) {
	b, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse("mailboxes.yml", file(line("Alice@Example.org", cheap(), "lun-1"), line("bob@example.org", string(b), "lun-2")), []string{"lun-1", "lun-2"})
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
	p, err := parsePHC(d.file.now().decoy)
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
		many[i] = line(fmt.Sprintf("u%d@example.org", i), cheap(), "lun-1")
	}
	for _, tc := range []struct {
		name, want string
		text       []byte
	}{
		{"address", `m.yml:2: mailboxes[0].address: "alice" is no mailbox address`, file(line("alice", cheap(), "lun-1"))},
		{"path in address", "is no mailbox address", file(line("../x@example.org", cheap(), "lun-1"))},
		{"twice", "m.yml:3: mailboxes[1].address: a@example.org is there twice", file(line("a@example.org", cheap(), "lun-1"), line("A@example.org", cheap(), "lun-1"))},
		{"clear password", "m.yml:2: mailboxes[0].password: no argon2id hash", file(line("a@example.org", "hunter2", "lun-1"))},
		{"LUN", `m.yml:2: mailboxes[0].lun: no LUN is called "lun-9"; known are lun-1`, file(line("a@example.org", cheap(), "lun-9"))},
		{"unknown key", "m.yml:2: mailboxes[0].kwota: unknown key", []byte("mailboxes:\n  - {address: a@example.org, kwota: 5}\n")},
		{"quota", `m.yml:3: mailboxes[0].quota.size: "5 apples" is not a size such as 500M or 5G`, boxes("a", "quota: {size: 5 apples}")},
		{"negative quota", "m.yml:3: mailboxes[0].quota.messages: -1 must not be below 0", boxes("a", "quota: {messages: -1}")},
		{"keys", "m.yml:3: mailboxes[0].scram: no SCRAM-SHA-256 keys as in RFC 5803", boxes("a", "scram: hunter2")},
		{"send_as", `m.yml:3: mailboxes[0].send_as[1]: "b" is no address`, boxes("a", "send_as: [a@example.org, b]")},
		{"alias is a mailbox", "m.yml:5: aliases[0].address: a@example.org is there twice", boxes("a", "", "aliases: [{address: A@example.org, to: [a@example.org]}]")},
		{"alias of nothing", "m.yml:5: aliases[0].to: leads to no address", boxes("a", "", "aliases: [{address: b@example.org}]")},
		{"dangling alias", "m.yml:7: aliases[0].to[1]: c@example.org is no mailbox, alias or group of this file",
			boxes("a", "", "aliases:\n  - address: b@example.org\n    to: [a@example.org, c@example.org]")},
		{"alias to elsewhere", "m.yml:5: aliases[0].to[0]: a@example.net is at another domain; mail is not forwarded there",
			boxes("a", "", "aliases: [{address: b@example.org, to: [a@example.net]}]")},
		{"alias of itself", "m.yml:5: aliases[0].to[0]: b@example.org leads back to b@example.org; break the circle",
			boxes("a", "", "aliases: [{address: b@example.org, to: [b@example.org]}]")},
		{"circle", "m.yml:6: groups[0].members[1]: b@example.org leads back to c@example.org; break the circle",
			boxes("a", "", "aliases: [{address: b@example.org, to: [c@example.org]}]", "groups: [{address: c@example.org, members: [a@example.org, B@example.org]}]")},
		{"senders", `m.yml:5: groups[0].from: "some" is none of anyone, members and domain`,
			boxes("a", "", "groups: [{address: c@example.org, from: some, members: [a@example.org]}]")},
		{"too far", "m.yml:103: groups[99].members: leads through more than 10000 addresses; split it", nested(100)},
		{"seed", "m.yml:1: seed: no base64 of at least 16 bytes", []byte("seed: c2hvcnQ=\n")},
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
	f.Add(file(line("alice@example.org", cheap(), "lun-1")))
	f.Add(boxes("a", "quota: {size: 5G, messages: 7}, send_as: [b@example.org]", "aliases: [{address: b@example.org, to: [c@example.org]}]",
		"groups: [{address: c@example.org, from: members, members: [a@example.org]}]", "seed: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))
	f.Add(boxes("a", "", "aliases: [{address: b@example.org, to: [b@example.org]}, {address: bücher@bücher.example, to: [b@example.org]}]"))
	f.Add([]byte("mailboxes: []\n"))
	f.Add([]byte("mailboxes:\n- address: [x]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse("m.yml", text, []string{"lun-1"})
		if err != nil {
			return
		}
		for address, e := range d.file.now().entries {
			if again, ok := Normalize(address); !ok || again != address || strings.ContainsAny(address, "/\x00") || strings.HasPrefix(address, ".") {
				t.Fatalf("accepted %q", address)
			}
			switch {
			case e.kind == aMailbox && (e.box.LUN != "lun-1" || e.box.Address != address || checkHash(e.hash) != nil):
				t.Fatalf("accepted %+v", e)
			case e.kind != aMailbox && len(e.to) == 0:
				t.Fatalf("%s leads nowhere", address)
			}
			boxes, err := d.Resolve(t.Context(), address)
			if (err != nil || len(boxes) == 0) && !errors.Is(err, ErrSender) {
				t.Fatalf("%s: %v, %v", address, boxes, err)
			}
		}
	})
}
