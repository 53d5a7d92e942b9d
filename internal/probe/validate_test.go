package probe

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"anycastle/internal/config"
)

// complaint reads and validates a probe and gives what is wrong with it.
func complaint(t *testing.T, text string) (Config, string) {
	t.Helper()
	doc, err := config.Parse("node.yml", []byte("probe: "+text))
	if err != nil {
		t.Fatal(err)
	}
	var c Config
	c.Validate(doc.Decode("probe", &c))
	if err := doc.Err(); err != nil {
		return c, err.Error()
	}
	return c, ""
}

func TestConfigOfEachType(t *testing.T) {
	_, files := certificates(t)
	secret, two := file(t, "secret\n"), file(t, "two\nlines")
	replace := strings.NewReplacer("CA", files.CA, "SECRET", secret, "TWO", two).Replace
	for name, tc := range map[string]struct{ text, want string }{
		"icmp":                 {"{type: icmp}", ""},
		"icmp has no port":     {"{type: icmp, port: 25}", "port: a probe of type icmp does not take it, only tcp, tls, http, https, smtp, lmtp, imap, dns, exec, agent-check; remove it"},
		"even an empty key":    {"{type: tcp, insecure: false}", "insecure: a probe of type tcp does not take it, only tls, https, smtp, lmtp, imap; remove it"},
		"tls":                  {"{type: tls, port: 465, ca: CA, server_name: mx.example.org, min_validity: 336h}", ""},
		"tls, believed":        {"{type: tls, insecure: true, server_name: mx.example.org}", ""},
		"tls without a name":   {"{type: tls}", "server_name: missing; give the name that the certificate must have, or `insecure: true`"},
		"tls, ca for nothing":  {"{type: tls, insecure: true, ca: CA}", "ca: has no use when"},
		"tls, no ca":           {"{type: tls, server_name: a, ca: /nonexistent}", "ca: stat /nonexistent: no such file or directory; give a PEM file"},
		"tls, ca in a pipe":    {"{type: tls, server_name: a, ca: /dev/null}", "ca: /dev/null is no regular file"},
		"tls, odd ca":          {"{type: tls, server_name: a, ca: SECRET}", "ca: " + secret + " holds no certificate; give a PEM file"},
		"tls, min_validity":    {"{type: tls, insecure: true, min_validity: -1h}", "min_validity: -1h0m0s is negative"},
		"http":                 {"{type: http, method: HEAD, path: '/status?full=1', host: 'mx.example.org:8080', status: [200, 204]}", ""},
		"http, method":         {"{type: http, method: get}", `method: "get" is no method of a probe`},
		"http, CONNECT":        {"{type: http, method: CONNECT}", `method: "CONNECT" is no method of a probe`},
		"http, path":           {"{type: http, path: 'a b'}", `path: "a b" is no path`},
		"http, space in path":  {"{type: http, path: '/a b'}", `path: "/a b" is no path`},
		"http, line in path":   {`{type: http, path: "/a\r\nb"}`, `path: "/a\r\nb" is no path`},
		"http, host":           {`{type: http, host: "a\r\nb"}`, `host: "a\r\nb" is no host`},
		"http, url as host":    {"{type: http, host: 'http://mx.example.org'}", `host: "http://mx.example.org" is no host`},
		"http, status":         {"{type: http, status: [200, 20]}", "status[1]: 20 is no final status"},
		"http, body of HEAD":   {"{type: http, method: HEAD, body: ok}", "body: a reply to HEAD has no body"},
		"http, long body":      {"{type: http, body: " + strings.Repeat("x", 4097) + "}", "body: 4097 bytes are too many"},
		"http, ca":             {"{type: http, ca: CA}", "ca: a probe of type http does not take it"},
		"https":                {"{type: https, host: mx.example.org, ca: CA}", ""},
		"https without a name": {"{type: https}", "server_name: missing"},
		"smtp":                 {"{type: smtp, port: 25, rcpt: postmaster@example.org}", ""},
		"smtp, starttls":       {"{type: smtp, tls: starttls, ca: CA, server_name: mx.example.org, min_validity: 1h}", ""},
		"smtp, implicit":       {"{type: smtp, port: 465, tls: implicit, insecure: true}", ""},
		"smtp, tls":            {"{type: smtp, tls: true}", `tls: "true" is no way to speak TLS; use starttls or implicit`},
		"smtp, ca in clear":    {"{type: smtp, ca: CA}", "ca: without `tls:` there is no certificate to look at"},
		"smtp, insecure clear": {"{type: smtp, insecure: true}", "insecure: without `tls:` there is no certificate"},
		"smtp, rcpt":           {"{type: smtp, rcpt: postmaster}", `rcpt: "postmaster" is no plain address`},
		"smtp, rcpt injects":   {`{type: smtp, rcpt: "a@example.org>\r\nDATA"}`, `rcpt: "a@example.org>\r\nDATA" is no plain address`},
		"lmtp":                 {"{type: lmtp, rcpt: a@example.org}", ""},
		"imap":                 {"{type: imap, user: probe, password_file: SECRET, mailbox: INBOX, tls: starttls, insecure: true}", ""},
		"imap, greeting":       {"{type: imap, port: 143}", ""},
		"imap in clear":        {"{type: imap, user: probe, password_file: SECRET}", "tls: missing, so the password would be sent in clear"},
		"imap in clear, meant": {"{type: imap, user: probe, password_file: SECRET, insecure: true}", ""},
		"imap, no password":    {"{type: imap, user: probe, insecure: true}", `password_file: missing; name a file with the password of "probe" alone`},
		"imap, password":       {"{type: imap, password_file: SECRET}", "password_file: is of no use without `user:`"},
		"imap, two lines":      {"{type: imap, user: probe, insecure: true, password_file: TWO}", "password_file: " + two + " is not one line"},
		"imap, no file":        {"{type: imap, user: probe, insecure: true, password_file: /nonexistent}", "password_file: stat /nonexistent: no such file"},
		"imap, mailbox":        {"{type: imap, mailbox: INBOX}", "mailbox: is selected by a user"},
		"imap, odd mailbox":    {"{type: imap, user: probe, password_file: SECRET, insecure: true, mailbox: Entwürfe}", `mailbox: "Entwürfe" is no mailbox`},
		"imap, odd user":       {`{type: imap, user: "a\r\nb", password_file: SECRET, insecure: true}`, `user: "a\r\nb" is no user`},
		"dns":                  {"{type: dns, query: mx.example.org, query_type: AAAA, rcode: noerror, answer: '2001:db8::1'}", ""},
		"dns without a query":  {"{type: dns}", `query: "" is no name to ask for`},
		"dns, type":            {"{type: dns, query: a, query_type: B}", `query_type: "B" is no type of record`},
		"dns, rcode":           {"{type: dns, query: a, rcode: B}", `rcode: "B" is no code of a reply`},
		"dns, answer":          {"{type: dns, query: a, answer: '2001:db8::1'}", `answer: "2001:db8::1" is no data of a record of type A`},
		"dns, two answers":     {`{type: dns, query: a, answer: "192.0.2.1\na 0 IN A 192.0.2.2"}`, "answer: "},
		"exec":                 {"{type: exec, command: [/bin/true, -x], port: 25}", ""},
		"exec without command": {"{type: exec}", "command: missing"},
		"exec, path":           {"{type: exec, command: [true]}", `command[0]: "true" has no full path`},
		"exec, NUL":            {`{type: exec, command: [/bin/true, "\0"]}`, "command: a NUL is in it"},
		"agent-check":          {"{type: agent-check, port: 9000}", ""},
		"agent without a port": {"{type: agent-check}", "port: missing; an agent has a port of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			c, got := complaint(t, replace(tc.text))
			if want := tc.want; want == "" && got != "" || !strings.HasPrefix(got, "node.yml:1: probe."+want) && want != "" {
				t.Errorf("complaint is %q, want %q", got, want)
			}
			if _, err := compile(&c); tc.want == "" && err != nil {
				t.Errorf("a config without complaint cannot be probed: %v", err)
			}
		})
	}
}

// A config made in memory is held to the same rules.
func TestConfigInMemory(t *testing.T) {
	c := Config{}
	c.SetDefaults()
	c.Rcpt = "postmaster@example.org"
	err := config.Check("memory", func(at config.Cursor) { c.Validate(at) })
	if err == nil || !strings.Contains(err.Error(), "rcpt: a probe of type tcp does not take it, only smtp, lmtp; remove it") {
		t.Errorf("complaint is %v", err)
	}
}

func TestKeysNameTypesThatExist(t *testing.T) {
	taken := map[string]bool{}
	for i := range reflect.TypeFor[Config]().NumField() {
		f := reflect.TypeFor[Config]().Field(i)
		for _, name := range strings.Fields(f.Tag.Get("takes")) {
			taken[name] = true
			if !slices.Contains(typeNames(), name) {
				t.Errorf("%s is taken by %q, which is no type", f.Name, name)
			}
		}
	}
	for _, name := range typeNames() {
		if !taken[name] && name != "icmp" {
			t.Errorf("%s takes no key", name)
		}
		// each type is compiled to something of its own
		c := Config{Type: name, Query: "example.org", Command: []string{"/bin/true"}, Insecure: true}
		if _, err := compile(&c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilesAreReadWhenTargetsAreSet(t *testing.T) {
	missing := Target{Name: "a", Addr: target("", 1, 0, 0).Addr, Config: &Config{Type: "imap", User: "probe", Password: "/nonexistent"}}
	err := NewRunner(nil, func(Result) {}).SetTargets([]Target{missing})
	if want := "imap probe of 192.0.2.1:25: password_file: stat /nonexistent: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %q", err, want)
	}
}
