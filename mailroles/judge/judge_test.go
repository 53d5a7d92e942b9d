package judge

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/authres"
	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-smtp"

	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/spool"
)

// zone is a fake of DNS. A TXT of "SERVFAIL" is a server that fails.
type zone map[string]string

func (z zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	switch text, ok := z[strings.TrimSuffix(name, ".")]; {
	case !ok:
		return nil, &net.DNSError{Name: name, IsNotFound: true}
	case text == "SERVFAIL":
		return nil, &net.DNSError{Name: name, Err: "server misbehaving", Server: "10.255.0.53:53", IsTemporary: true}
	default:
		return []string{text}, nil
	}
}

func (zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return nil, &net.DNSError{Name: name, IsNotFound: true}
}

func (zone) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	return nil, &net.DNSError{Name: name, IsNotFound: true}
}

func (zone) LookupAddr(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Name: name, IsNotFound: true}
}

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))

func keyRecord() string {
	return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
}

// sign signs a message for a domain.
func sign(t *testing.T, msg, domain string) string {
	t.Helper()
	var b bytes.Buffer
	err := dkim.Sign(&b, strings.NewReader(msg), &dkim.SignOptions{Domain: domain, Selector: "s", Signer: crypto.Signer(key)})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const plain = "From: A <a@news.example.com>\r\nTo: b@example.org\r\nSubject: x\r\n\r\nhello\r\n"

// judged has a message from a client at 192.0.2.1 judged.
func judged(t *testing.T, z zone, enforce bool, from, msg string) (*smtpd.Envelope, error) {
	t.Helper()
	body, err := spool.Fill("", strings.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { body.Close() })
	client := smtpd.Client{Addr: netip.MustParseAddr("192.0.2.1"), Helo: "mail.example.com"}
	env := &smtpd.Envelope{From: from, Body: body, Client: client}
	j := New(Config{Timeout: 5 * time.Second, Enforce: enforce}, "mx.example.org", slog.New(slog.DiscardHandler))
	j.dns = z
	return env, j.Judge(t.Context(), env)
}

func TestJudge(t *testing.T) {
	const spfOK = "v=spf1 ip4:192.0.2.0/24 -all"
	const spfNo = "v=spf1 -all"
	signed := func(domain string) string { return sign(t, plain, domain) }
	for _, tc := range []struct {
		name      string
		zone      zone
		from, msg string
		want      string // spf, dkim and dmarc
	}{
		{"nothing is there", zone{}, "a@news.example.com", plain, "none none none"},
		{"SPF of the domain", zone{"news.example.com": spfOK, "_dmarc.news.example.com": "v=DMARC1; p=reject"},
			"a@news.example.com", plain, "pass none pass"},
		{"SPF of the domain above", zone{"bounce.example.com": spfOK, "_dmarc.example.com": "v=DMARC1; p=reject"},
			"x@bounce.example.com", plain, "pass none pass"},

		{"SPF of the domain above, which is not enough", zone{"example.com": spfOK, "_dmarc.example.com": "v=DMARC1; p=reject; aspf=s"},
			"x@example.com", plain, "pass none fail"},
		{"SPF of another", zone{"example.net": spfOK, "_dmarc.example.com": "v=DMARC1; p=reject"},
			"x@example.net", plain, "pass none fail"},
		{"SPF of the name of a bounce's sender", zone{"mail.example.com": spfOK, "_dmarc.example.com": "v=DMARC1; p=reject"},
			"", plain, "pass none pass"},
		{"SPF of a domain that is not ASCII", zone{"xn--bcher-kva.example": spfOK, "_dmarc.xn--bcher-kva.example": "v=DMARC1; p=reject"},
			"x@b\u00fccher.example", "From: a@xn--bcher-kva.example\r\n\r\n", "pass none pass"},
		{"SPF of a domain that is not ASCII, and looks like one below", zone{"xn--evilexample-ebb.com": spfOK, "_dmarc.example.com": "v=DMARC1; p=reject"},
			"x@evil\u00e9example.com", plain, "pass none fail"},
		{"SPF fails", zone{"news.example.com": spfNo, "_dmarc.example.com": "v=DMARC1; p=none"},
			"a@news.example.com", plain, "fail none fail"},

		{"DKIM", zone{"news.example.com": spfNo, "s._domainkey.example.com": keyRecord(), "_dmarc.example.com": "v=DMARC1; p=reject"},
			"a@news.example.com", signed("example.com"), "fail pass pass"},
		{"DKIM of another", zone{"s._domainkey.example.net": keyRecord(), "_dmarc.example.com": "v=DMARC1; p=reject"},
			"a@news.example.com", signed("example.net"), "none pass fail"},
		{"DKIM, changed on the way", zone{"s._domainkey.example.com": keyRecord(), "_dmarc.example.com": "v=DMARC1; p=reject"},
			"a@news.example.com", signed("example.com") + "spam\r\n", "none fail fail"},
		{"DKIM without a key", zone{"_dmarc.example.com": "v=DMARC1; p=reject"},
			"a@news.example.com", signed("example.com"), "none permerror fail"},
		{"DNS of the key fails", zone{"s._domainkey.example.com": "SERVFAIL", "_dmarc.example.com": "v=DMARC1; p=reject"},
			"a@news.example.com", signed("example.com"), "none temperror temperror"},
		{"DNS of the policy fails", zone{"_dmarc.news.example.com": "SERVFAIL"},
			"a@news.example.com", plain, "none none temperror"},
		{"two From", zone{"_dmarc.example.com": "v=DMARC1; p=reject"},
			"a@news.example.com", "From: a@example.com\r\n" + plain, "none none permerror"},
		{"two domains in From", zone{}, "", "From: a@example.com, b@example.net\r\n\r\n", "none none permerror"},
		{"no From", zone{}, "", "Subject: x\r\n\r\n", "none none permerror"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env, err := judged(t, tc.zone, false, tc.from, tc.msg)
			if err != nil || env.Hold != "" {
				t.Errorf("without enforce: %v, hold %q", err, env.Hold)
			}
			name, value, _ := strings.Cut(env.Head, ": ")
			id, results, err := authres.Parse(strings.NewReplacer("\r\n", "").Replace(value))
			if err != nil || name != "Authentication-Results" || id != "mx.example.org" || len(results) != 3 {
				t.Fatalf("field %q: id %q, %d results, %v", env.Head, id, len(results), err)
			}
			got := fmt.Sprint(results[0].(*authres.SPFResult).Value, " ", results[1].(*authres.DKIMResult).Value, " ",
				results[2].(*authres.DMARCResult).Value)
			if got != tc.want {
				t.Errorf("got %s, want %s: %s", got, tc.want, env.Head)
			}
		})
	}
}

func TestEnforce(t *testing.T) {
	for _, tc := range []struct {
		record string
		code   int
		hold   bool
	}{
		{"v=DMARC1; p=none", 0, false},
		{"v=DMARC1; p=quarantine", 0, true},
		{"v=DMARC1; p=reject", 550, false},
		{"v=DMARC1; p=reject; pct=50", 0, true},
		{"v=DMARC1; p=quarantine; pct=0", 0, false},
		{"v=DMARC1; p=reject; sp=none", 0, false}, // news.example.com is below
		{"v=DMARC1; p=none; sp=quarantine", 0, true},
		{"v=DMARC1; p=nonsense", 0, false},
		{"SERVFAIL", 451, false},
	} {
		env, err := judged(t, zone{"_dmarc.example.com": tc.record}, true, "x@example.net", plain)
		code := 0
		var reply *smtp.SMTPError
		if errors.As(err, &reply) {
			code = reply.Code
		}
		if code != tc.code || (env.Hold != "") != tc.hold {
			t.Errorf("%s: %v, hold %q; want %d, hold %v", tc.record, err, env.Hold, tc.code, tc.hold)
		}
	}
}

// A message that claims to be from nobody, or from two, is not let past the policies of those whom a reader would see.
func TestEnforceWithoutOneFrom(t *testing.T) {
	z := zone{"_dmarc.example.com": "v=DMARC1; p=reject"}
	for _, msg := range []string{
		"From: ceo@example.com\r\nFrom: x@example.net\r\n\r\n",
		"From: ceo@example.com, x@example.net\r\n\r\n",
		"From : ceo@example.com\r\nno field\r\n\r\n",
		"Subject: x\r\n\r\n",
	} {
		if env, err := judged(t, z, true, "x@example.net", msg); err != nil || !strings.Contains(env.Hold, "no policy can be found") {
			t.Errorf("%q: %v, hold %q; want that it is kept apart", msg, err, env.Hold)
		}
	}
}

// A header of very many fields would take many times its size in memory.
func TestHeaderThatWouldFillTheMemory(t *testing.T) {
	for _, head := range []string{strings.Repeat("a:\r\n", maxFields+1), "Subject: " + strings.Repeat("x", maxHead) + "\r\n"} {
		var reply *smtp.SMTPError
		if _, err := judged(t, zone{}, false, "x@example.net", head+plain); !errors.As(err, &reply) || reply.Code != 552 {
			t.Errorf("a header of %d bytes: %v, want 552", len(head), err)
		}
	}
	for _, msg := range []string{
		strings.Repeat("a:\r\n", maxFields-10) + plain, "Subject: " + strings.Repeat("x", maxHead/2) + "\r\n" + plain,
		plain + strings.Repeat("a:\r\n", maxHead),
	} {
		if _, err := judged(t, zone{}, false, "x@example.net", msg); err != nil {
			t.Errorf("a message of %d bytes: %v", len(msg), err)
		}
	}
}

// TestFieldTellsNothingOfOurDNS has lookups of all three kinds fail. Who reads the message need not know whom we ask.
func TestFieldTellsNothingOfOurDNS(t *testing.T) {
	dns := zone{"news.example.com": "SERVFAIL", "s._domainkey.example.com": "SERVFAIL", "_dmarc.news.example.com": "SERVFAIL"}
	env, err := judged(t, dns, false, "a@news.example.com", sign(t, plain, "example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(env.Head, "=temperror") != 3 || strings.Contains(env.Head, "10.255.0.53") {
		t.Errorf("want three temperrors and no address of a server: %s", env.Head)
	}
}

// TestFieldIsOne sends values that would end the field, or begin another.
func TestFieldIsOne(t *testing.T) {
	body := "DKIM-Signature: v=1; a=rsa-sha256; d=x\r\n\t;y=evil\\\"; s=a; h=from; i=\"a\r\n b\"@x; bh=; b=\r\n" + plain
	env, err := judged(t, zone{}, false, "\"; dmarc=pass header.from=x\"@example.net", body)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(env.Head, "dmarc="); n != 2 { // one of them within the value of smtp.mailfrom
		t.Errorf("%d results of DMARC in %q", n, env.Head)
	}
	lines := strings.Split(strings.TrimSuffix(env.Head, "\r\n"), "\r\n")
	for i, line := range lines {
		if (i > 0) != strings.HasPrefix(line, "\t") || strings.ContainsAny(line, "\r\n") {
			t.Errorf("line %d is %q", i, line)
		}
	}
	_, results, err := authres.Parse(strings.TrimPrefix(strings.ReplaceAll(env.Head, "\r\n", ""), "Authentication-Results: "))
	if err != nil || len(results) != 3 {
		t.Errorf("%d results, %v: %s", len(results), err, env.Head)
	}
}

func TestManySignatures(t *testing.T) {
	msg := plain
	for range 50 {
		msg = sign(t, msg, "example.com")
	}
	env, err := judged(t, zone{"s._domainkey.example.com": keyRecord()}, false, "a@news.example.com", msg)
	if n := strings.Count(env.Head, "dkim="); err != nil || n != maxSignatures {
		t.Errorf("%d signatures verified (%v), want %d", n, err, maxSignatures)
	}
}

func FuzzJudge(f *testing.F) {
	f.Add("a@example.com", plain)
	f.Add("", "From: x\r\n\r\n")
	f.Add("x", "DKIM-Signature: v=1; a=rsa-sha256; d=x; s=y; h=from; bh=AA; b=AA\r\nFrom: a@b\r\n\r\n")
	f.Fuzz(func(t *testing.T, from, msg string) {
		env, err := judged(t, zone{"_dmarc.example.com": "v=DMARC1; p=reject"}, false, from, msg)
		if err != nil || !strings.HasPrefix(env.Head, "Authentication-Results: mx.example.org;") ||
			!strings.HasSuffix(env.Head, "\r\n") || strings.Count(env.Head, "\n") != strings.Count(env.Head, "\r\n\t")+1 {
			t.Fatalf("%v, %q", err, env.Head)
		}
	})
}
