package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycastle/internal/config"
)

const goodTargets = `client:
  ca: /etc/ca.pem
  resolvers: [192.0.2.53:53]
  selectors: [198.51.100.5:53]
  pods:
    - pod: "1"
      smtp: 203.0.113.25:25
      submission: 203.0.113.87:587
      imap: 203.0.113.143:143
      imaps: 203.0.113.143:993
      sites: [203.0.113.11:25]
      names: {smtp: smtp.mail.example.org, submission: submission.mail.example.org, imap: imap.mail.example.org}
      mailboxes:
        - {address: alice@example.org, password: alice-lab, lun: lun-east}
    - {pod: "2", smtp: "[2001:db8::25]:25"}
`

func TestTargetsAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client.yml")
	if err := os.WriteFile(path, []byte(goodTargets), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := LoadTargets(path)
	if err != nil {
		t.Fatal(err)
	}
	if p := got.Pods[0]; len(got.Pods) != 2 || p.IMAPS.String() != "203.0.113.143:993" || p.Names.of(ServiceIMAP) != "imap.mail.example.org" ||
		p.Mailboxes[0] != (Account{"alice@example.org", "alice-lab", "lun-east"}) || got.CA != "/etc/ca.pem" {
		t.Errorf("got %+v", got)
	}
	if p := got.Pods[1]; p.IMAP.IsValid() || p.SMTP.Port() != 25 {
		t.Errorf("second pod is %+v", p)
	}
}

func TestTargetsThatAreWrong(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no pod":          {"client: {pods: []}", "no pod"},
		"another section": {"client: {pods: [{}]}\nlb: {}", "lb"},
		"unknown key":     {"client: {pods: [{pop: 1.2.3.4:110}]}", "pop"},
		"no port":         {"client: {pods: [{smtp: 203.0.113.25}]}", "smtp"},
		"same label":      {"client: {pods: [{pod: a}, {pod: a}]}", "pods[1].pod"},
		"no address":      {"client: {pods: [{mailboxes: [{address: alice, password: x}]}]}", "no address"},
		"no password":     {"client: {pods: [{mailboxes: [{address: a@example.org}]}]}", "no password"},
		"same address":    {"client: {pods: [{mailboxes: [{address: a@b, password: x}, {address: a@b, password: x}]}]}", "twice"},
		"nothing in it":   {"client:\n", "no pod"},
		"no such section": {"clients: {}\n", "clients"},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := config.Parse("client.yml", []byte(c.text))
			if err == nil {
				_, err = decode(doc)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "client.yml:") {
				t.Errorf("error is %v, want one about %q", err, c.want)
			}
		})
	}
}

func TestTrustWantsACertificate(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, empty + ".not"} {
		if _, err := Trust(path); err == nil {
			t.Errorf("trusts %s", path)
		}
	}
}

func FuzzTargets(f *testing.F) {
	f.Add([]byte(goodTargets))
	f.Add([]byte("client: {pods: [{smtp: 203.0.113.25}]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := config.Parse("client.yml", text)
		if err != nil {
			return
		}
		if got, err := decode(doc); err == nil && len(got.Pods) == 0 {
			t.Error("took targets without a pod")
		}
	})
}
