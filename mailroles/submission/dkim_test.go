package submission

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-smtp"

	"anycastle/internal/config"
)

// zone is DNS by name, for those who look for public keys.
type zone map[string]string

func (z zone) lookup(name string) ([]string, error) {
	return []string{z[strings.TrimSuffix(name, ".")]}, nil
}

// newKey writes a private key to a file, and publishes the other half.
func (z zone) newKey(t *testing.T, domain, selector, kind string) DKIMKey {
	t.Helper()
	var signer crypto.Signer
	var public []byte
	var err error
	switch kind {
	case "rsa":
		var k *rsa.PrivateKey
		if k, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
			signer = k
			public, err = x509.MarshalPKIXPublicKey(k.Public())
		}
	case "ed25519":
		var k ed25519.PrivateKey
		public, k, err = ed25519.GenerateKey(rand.Reader)
		signer = k
	}
	if err != nil {
		t.Fatal(err)
	}
	z[selector+"._domainkey."+domain] = "v=DKIM1; k=" + kind + "; p=" + base64.StdEncoding.EncodeToString(public)
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	return DKIMKey{Domain: domain, Selector: selector, File: pemFile(t, "PRIVATE KEY", der)}
}

func pemFile(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bare has no field that it might have.
const bare = "From: alice@example.org\r\nTo: x@example.com\r\nBcc: y@example.com,\r\n z@example.com\r\n" +
	"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n" +
	"return-path: <x>\r\nReferences: <a>\r\n <b>\r\n\r\n  body \r\n\t\r\n.dot\r\n\r\n\r\n"

// signedMessage sends bare with an RSA and an Ed25519 key, and gives what the queue got.
func signedMessage(t *testing.T, z zone) string {
	t.Helper()
	s := newService(t, func(c *Config) {
		c.DKIM.Keys = []DKIMKey{
			z.newKey(t, "example.org", "rsa1", "rsa"), z.newKey(t, "example.org", "ed1", "ed25519"), z.newKey(t, "example.net", "other", "rsa"),
		}
	})
	if err := s.as(alice).SendMail(alice, []string{"x@example.com"}, strings.NewReader(bare)); err != nil {
		t.Fatal(err)
	}
	return s.store.at(t, luns["lun-east"].Queue).text
}

func TestMessageIsCompletedAndSigned(t *testing.T) {
	z := zone{}
	text := signedMessage(t, z)
	head, err := readHeader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{
		"Received": 1, "DKIM-Signature": 2, "Date": 1, "Message-ID": 1, "From": 1, "To": 1, "Subject": 1, "References": 1,
		"Bcc": 0, "Return-Path": 0,
	} {
		if got := len(head.all(name)); got != n {
			t.Errorf("%d fields %s, want %d", got, name, n)
		}
	}
	if strings.Contains(text, "y@example.com") || strings.Contains(text, "z@example.com") {
		t.Errorf("a blind copy shows:\n%s", text)
	}
	verify := func(what, text string, good bool) {
		t.Helper()
		list, err := dkim.VerifyWithOptions(strings.NewReader(text), &dkim.VerifyOptions{LookupTXT: z.lookup})
		if err != nil || len(list) != 2 {
			t.Fatalf("%s: %d signatures, %v", what, len(list), err)
		}
		for _, v := range list {
			if v.Domain != "example.org" || (v.Err == nil) != good {
				t.Errorf("%s: signature of %s: %v, want good=%v", what, v.Domain, v.Err, good)
			}
		}
	}
	verify("as it was handed on", text, true)
	verify("with more trace", "Received: from mx\r\nAuthentication-Results: x\r\n"+text, true)
	for _, field := range []string{"From", "Subject", "To", "Cc", "Reply-To", "Date", "Message-ID", "MIME-Version", "Content-Type"} {
		verify("with another "+field, field+": x\r\n"+text, false)
	}
	verify("with another body", text+"more\r\n", false)
	verify("with another subject", strings.Replace(text, "Subject: ", "Subject: x", 1), false)
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > 998 {
			t.Errorf("a line has %d bytes", len(line))
		}
	}
}

// verifier is dkimpy, which is told what DNS would say.
const verifier = `
import dkim, json, sys
zone = {k + ".": v for k, v in json.loads(sys.argv[1]).items()}
find = lambda name, timeout=5: zone[name.decode()].encode()
m = sys.stdin.buffer.read()
for i in range(2):
    print(dkim.DKIM(m).verify(idx=i, dnsfunc=find))
`

func TestAnotherImplementationVerifies(t *testing.T) {
	z := zone{}
	text := signedMessage(t, z)
	names, err := json.Marshal(z)
	if err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct{ text, want string }{
		"as it was handed on": {text, "True\nTrue\n"}, "with another From": {"From: x@example.org\r\n" + text, "False\nFalse\n"},
	} {
		cmd := exec.Command("/usr/bin/python3", "-c", verifier, string(names)) // not one that has no Debian packages
		cmd.Stdin = strings.NewReader(tc.text)
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != tc.want {
			t.Errorf("%s: %q, %v; want %q\n%s", what, out, err, tc.want, tc.text)
		}
	}
}

func TestDomainsWithoutAKey(t *testing.T) {
	z := zone{}
	for _, require := range []bool{false, true} {
		s := newService(t, func(c *Config) {
			c.DKIM = DKIM{Keys: []DKIMKey{z.newKey(t, "example.org", "s", "ed25519")}, Require: require}
		})
		c := s.as(alice)
		for range 3 {
			err := c.SendMail(alice, []string{bob}, strings.NewReader(strings.Replace(greeting, alice, "sales@example.net", 1)))
			if require {
				expect(t, "required", err, 550, smtp.EnhancedCode{5, 7, 1})
				continue
			}
			expect(t, "not required", err, 0, smtp.EnhancedCode{})
			if got := s.store.at(t, luns["lun-west"].LMTP); strings.Contains(got.text, "DKIM-Signature") {
				t.Errorf("signed with another domain's key:\n%s", got.text)
			}
		}
		if n := strings.Count(s.log.String(), "go unsigned"); !require && n != 1 {
			t.Errorf("it is told of %d times, want once", n)
		}
	}
}

func TestReloadReadsKeysAnew(t *testing.T) {
	z := zone{}
	var c Config
	s := newService(t, func(conf *Config) {
		conf.DKIM.Keys = []DKIMKey{z.newKey(t, "example.org", "old", "ed25519")}
		c = *conf
	})
	send := func() string {
		t.Helper()
		if err := s.as(alice).SendMail(alice, []string{bob}, strings.NewReader(greeting)); err != nil {
			t.Fatal(err)
		}
		return s.store.at(t, luns["lun-west"].LMTP).text
	}
	send()
	c.DKIM.Keys = []DKIMKey{{Domain: "example.org", Selector: "new", File: filepath.Join(t.TempDir(), "none.pem")}}
	if err := s.handler.Reload(c); err == nil {
		t.Error("a file that is not there was taken")
	}
	if text := send(); !strings.Contains(text, "s=old;") {
		t.Errorf("the old key is not in use any more:\n%s", text)
	}
	c.DKIM.Keys = []DKIMKey{z.newKey(t, "example.org", "new", "rsa")}
	if err := s.handler.Reload(c); err != nil {
		t.Fatal(err)
	}
	if text := send(); !strings.Contains(text, "s=new;") || strings.Contains(text, "s=old;") {
		t.Errorf("the new key is not in use:\n%s", text)
	}
}

func TestConfig(t *testing.T) {
	z := zone{}
	good := z.newKey(t, "example.org", "s", "ed25519").File
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := pemFile(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(short))
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	public := pemFile(t, "PUBLIC KEY", []byte("x"))
	broken := pemFile(t, "PRIVATE KEY", []byte("x"))
	key := func(domain, selector, file string) string {
		return "dkim: {keys: [{domain: " + domain + ", selector: " + selector + ", key: " + file + "}]}"
	}
	for _, tc := range []struct{ text, want string }{
		{"{}", ""},
		{"\n  listen: [\":587\"]\n  max_recipients: 10000\n  scram: false", ""},
		{"\n  " + key("example.org", "s1.mail", good), ""},
		{"\n  " + key("example.org", "s", pkcs1), ""},
		{"\n  max_recipients: 0", "node.yml:2: s.max_recipients: 0 must be from 1 to 10000"},
		{"\n  messages_per_hour: 0", "node.yml:2: s.messages_per_hour: 0 must be from 1"},
		{"\n  dkim: {require: true}", "node.yml:2: s.dkim.require: no message could be sent"},
		{"\n  " + key("Example.org", "s", good), `s.dkim.keys[0].domain: "Example.org" is no domain`},
		{"\n  " + key("example.org", "'s;'", good), `s.dkim.keys[0].selector: "s;" is no selector`},
		{"\n  " + key("example.org", "s", good+".none"), "s.dkim.keys[0].key: open"},
		{"\n  " + key("example.org", "s", text), "s.dkim.keys[0].key: the file is not PEM"},
		{"\n  " + key("example.org", "s", public), "s.dkim.keys[0].key: the file holds no private key"},
		{"\n  " + key("example.org", "s", broken), "s.dkim.keys[0].key: the private key cannot be read"},
		{"\n  dkim: {keys: [{domain: a.org, selector: s, key: " + good + "}, {domain: a.org, selector: s, key: " + good + "}]}", "s.dkim.keys[1].selector: a.org has two keys"},
	} {
		doc, err := config.Parse("node.yml", []byte("s: "+tc.text+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		var c Config
		c.Validate(doc.Decode("s", &c))
		err = doc.Err()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.text, err, tc.want)
		}
	}
	var c Config
	c.SetDefaults()
	if c.MessagesPerHour != 200 || c.MaxRecipients != 100 || !c.SCRAM ||
		c.Listen[0].String() != ":587" || c.TLSListen[0].String() != ":465" {
		t.Errorf("defaults are %+v", c)
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{bare, greeting, "\r\n", "a:\r\n", " x", "From:\r\n\t", "A : b\r\n\r\nrest", "no field\r\n", "x: y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := readHeader(strings.NewReader(text))
		if err != nil {
			return
		}
		// what was read is what is there, and the rest begins where it ends
		read := strings.TrimSuffix(text[:h.size], "\r\n\r\n")
		if got := strings.TrimSuffix(h.String(), "\r\n"); got != strings.TrimSuffix(read, "\r\n") && got != read {
			t.Errorf("header of %q is %q", text, got)
		}
		for _, f := range h.fields {
			if list, err := f.addresses(); err == nil && len(list) == 0 {
				t.Errorf("no address and no error in %q", f.text)
			}
		}
		h.remove("Bcc")
		h.addMissing("Date", "x")
		again, err := readHeader(strings.NewReader(h.String() + "\r\n"))
		if err != nil || len(again.fields) != len(h.fields) {
			t.Errorf("%q does not read back: %v", h.String(), err)
		}
	})
}
