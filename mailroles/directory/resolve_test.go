package directory

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// society has mailboxes a to d, aliases and groups.
func society(t *testing.T) *Directory {
	t.Helper()
	text := "mailboxes:\n"
	for i, more := range []string{"quota: {size: 5G, messages: 7}, send_as: [News@Example.net, e@example.org]", "", "disabled: true", "", "", ""} {
		text += fmt.Sprintf("  - {address: %c@example.org, password: %q, lun: lun-%d, %s}\n", 'a'+i, cheap(), i%2+1, more)
	}
	text += fmt.Sprintf("  - {address: a+own@example.org, password: %q, lun: lun-1}\n", cheap()) +
		fmt.Sprintf("  - {address: e+own@example.org, password: %q, lun: lun-1}\n", cheap()) +
		fmt.Sprintf("  - {address: x@b\u00fccher.example, password: %q, lun: lun-1}\n", cheap()) + `
aliases:
  - {address: info@example.org, to: [a@example.org]}
  - {address: more-info@example.org, to: [info@example.org]}
  - {address: both@example.org, to: [a@example.org, b@example.org, info@example.org]}
  - {address: to-closed@example.org, to: [closed@example.org]}
groups:
  - {address: one@example.org, members: [a@example.org]}
  - {address: open@example.org, members: [closed@example.org, d@example.org, a@example.org]}
  - {address: closed@example.org, from: members, members: [a@example.org, inner@example.org]}
  - {address: inner@example.org, from: domain, members: [b@example.org]}
`
	d, err := Parse("mailboxes.yml", []byte(text), []string{"lun-1", "lun-2"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestResolve(t *testing.T) {
	d := society(t)
	for _, tc := range []struct {
		sender, to, want string
		err              error
	}{
		{"", "a@example.org", "a", nil},
		{"", "A+tag@EXAMPLE.org", "a", nil},
		{"", "a+own@example.org", "a+own", nil},
		{"", "a+own+tag@example.org", "a", nil},
		{"", "+tag@example.org", "", ErrUnknown},
		{"", "c@example.org", "c", nil}, // nobody logs in, but mail arrives
		{"", "x@xn--bcher-kva.example", "x", nil},
		{"", "x@B\u00dcCHER.example", "x", nil},
		{"", "z@example.org", "", ErrUnknown},
		{"", "a@example.net", "", ErrUnknown},
		{"", "postmaster", "", ErrUnknown},
		{"", "info@example.org", "a", nil},
		{"", "info+tag@example.org", "a", nil},
		{"", "more-info@example.org", "a", nil},
		{"", "both@example.org", "a b", nil},
		{"", "open@example.org", "a b d", nil},
		{"", "closed@example.org", "", ErrSender},
		{"", "to-closed@example.org", "", ErrSender},
		{"", "inner@example.org", "", ErrSender},
		{"z@example.org", "closed@example.org", "", ErrSender},
		{"d@example.org", "closed@example.org", "", ErrSender},
		{"b@example.org", "closed@example.org", "a b", nil},
		{"B@example.org", "to-closed@example.org", "a b", nil},
		{"d@example.org", "inner@example.org", "b", nil},
		{"x@b\u00fccher.example", "inner@example.org", "", ErrSender},
	} {
		boxes, err := d.ResolveFrom(t.Context(), tc.sender, tc.to)
		var got []string
		for _, m := range boxes {
			local, _, _ := strings.Cut(m.Address, "@")
			got = append(got, local)
		}
		if tc.want != strings.Join(sorted(got), " ") || !errors.Is(err, tc.err) {
			t.Errorf("from %q to %s: %v, %v; want %q, %v", tc.sender, tc.to, got, err, tc.want, tc.err)
		}
		if errors.Is(tc.err, ErrUnknown) != errors.Is(err, ErrUnknown) {
			t.Errorf("from %q to %s: %v; who only knows ErrUnknown would answer that it cannot tell", tc.sender, tc.to, err)
		}
	}
	m, err := d.Mailbox(t.Context(), "A@example.org")
	if want := (Mailbox{"a@example.org", "lun-1", Quota{5 << 30, 7}, false}); err != nil || m != want {
		t.Errorf("mailbox a is %+v, %v; want %+v", m, err, want)
	}
	for _, none := range []string{"info@example.org", "open@example.org", "a+tag@example.org", "z@example.org"} {
		if m, err := d.Mailbox(t.Context(), none); !errors.Is(err, ErrUnknown) {
			t.Errorf("mailbox %s is %+v, %v; want ErrUnknown", none, m, err)
		}
	}
}

func sorted(list []string) []string {
	for i := range list {
		for j := range i {
			if list[i] < list[j] {
				list[i], list[j] = list[j], list[i]
			}
		}
	}
	return list
}

func TestLocal(t *testing.T) {
	d := society(t)
	for domain, want := range map[string]bool{
		"example.org": true, "EXAMPLE.org": true, "b\u00fccher.example": true, "xn--bcher-kva.example": true,
		"example.net": false, "": false, "sub.example.org": false, "example.org.": false,
	} {
		if got, err := d.Local(t.Context(), domain); got != want || err != nil {
			t.Errorf("%q is local: %v, %v; want %v", domain, got, err, want)
		}
	}
}

func TestMaySend(t *testing.T) {
	d := society(t)
	for _, tc := range []struct {
		box, from string
		want      bool
	}{
		{"a", "a@example.org", true},
		{"a", "A@EXAMPLE.ORG", true},
		{"a", "a+tag@example.org", true},
		{"a", "a+own@example.org", false}, // which is another mailbox
		{"a", "info@example.org", true},
		{"a", "more-info+tag@example.org", true},
		{"a", "news@example.net", true},
		{"a", "news+tag@example.net", true},
		{"a", "e+tag@example.org", true},
		{"a", "e+own@example.org", false}, // which is another mailbox too
		{"a", "both@example.org", false},
		{"a", "one@example.org", false},
		{"a", "b@example.org", false},
		{"b", "info@example.org", false},
		{"b", "news@example.net", false},
		{"c", "c@example.org", false}, // disabled
		{"z", "z@example.org", false}, // gone
		{"a", "", false},
		{"a", "a@example.org@example.net", false},
		{"a", "a@example.net", false},
	} {
		got, err := d.MaySend(t.Context(), Mailbox{Address: tc.box + "@example.org"}, tc.from)
		if got != tc.want || err != nil {
			t.Errorf("%s as %q: %v, %v; want %v", tc.box, tc.from, got, err, tc.want)
		}
	}
}

func TestDisabledMailboxDoesNotLogIn(t *testing.T) {
	d := society(t)
	for box, want := range map[string]error{"a": nil, "c": ErrLogin, "info": ErrLogin, "open": ErrLogin, "a+tag": ErrLogin} {
		if _, err := d.Authenticate(t.Context(), box+"@example.org", "secret"); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", box, err, want)
		}
	}
	if m, err := d.Mailbox(t.Context(), "c@example.org"); err != nil || !m.Disabled {
		t.Errorf("mailbox c is %+v, %v", m, err)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "7": 7, "1K": 1024, "500M": 500 << 20, "5G": 5 << 30, "2T": 2 << 40, "-1": -1, "5GB": -1, "G": -1, "": -1, "9999999999T": -1, "1.5G": -1} {
		var s Size
		err := s.UnmarshalText([]byte(text))
		if err != nil {
			s = -1
		}
		if s != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
		if err == nil && s.String() != text {
			t.Errorf("%q comes back as %q", text, s.String())
		}
	}
}
