package probe

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
)

const password = `a "quoted\ passwörd`

// startIMAP runs the library's server with a user whose password is not easy to send.
func startIMAP(t *testing.T, conf *tls.Config, implicit bool) netip.AddrPort {
	t.Helper()
	user := imapmemserver.NewUser("probe", password)
	if err := user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	store := imapmemserver.New()
	store.AddUser(user)
	o := &imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return store.NewSession(), nil, nil
		},
		Caps: imap.CapSet{imap.CapIMAP4rev1: {}}, TLSConfig: conf, InsecureAuth: conf == nil,
		Logger: log.New(io.Discard, "", 0),
	}
	ln, addr := listen(t, "127.0.0.1:0")
	if implicit {
		ln, o.TLSConfig = tls.NewListener(ln, conf), nil
		o.InsecureAuth = true
	}
	s := imapserver.New(o)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ln) })
	t.Cleanup(func() { s.Close(); serving.Wait() })
	return addr
}

func TestIMAP(t *testing.T) {
	conf, files := certificates(t)
	right, wrong := file(t, password+"\n"), file(t, "wrong")
	login := Config{User: "probe", Password: right, TLS: "starttls", CA: files.CA, ServerName: "mx.example.org"}
	for name, tc := range map[string]struct {
		plain, implicit bool
		config          func(*Config)
		want            string
	}{
		"no login":           {config: func(c *Config) { *c = Config{} }},
		"STARTTLS, no login": {config: func(c *Config) { c.User = "" }},
		"login":              {config: func(*Config) {}},
		"mailbox":            {config: func(c *Config) { c.Mailbox = "INBOX" }},
		"no mailbox":         {config: func(c *Config) { c.Mailbox = "Archive" }, want: "SELECT: NO "},
		"wrong password":     {config: func(c *Config) { c.Password = wrong }, want: "LOGIN: NO [AUTHENTICATIONFAILED]"},
		"unknown user":       {config: func(c *Config) { c.User = "no\"bö\\dy" }, want: "LOGIN: NO [AUTHENTICATIONFAILED]"},
		"wrong name":         {config: func(c *Config) { c.ServerName = "example.org" }, want: "handshake: tls: failed to verify certificate"},
		"in clear":           {plain: true, config: func(c *Config) { c.TLS, c.Mailbox = "", "inbox" }},
		"clear not allowed":  {config: func(c *Config) { c.TLS = "" }, want: "LOGIN: NO [PRIVACYREQUIRED]"},
		"no STARTTLS":        {plain: true, config: func(*Config) {}, want: "STARTTLS: NO "},
		"implicit":           {implicit: true, config: func(c *Config) { c.TLS, c.Mailbox = "implicit", "INBOX" }},
		"implicit to plain":  {config: func(c *Config) { c.TLS = "implicit" }, want: "handshake: tls: first record does not look like"},
	} {
		t.Run(name, func(t *testing.T) {
			serverTLS := conf
			if tc.plain {
				serverTLS = nil
			}
			addr := startIMAP(t, serverTLS, tc.implicit)
			cfg := login
			tc.config(&cfg)
			cfg.Type, cfg.Timeout = "imap", long
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
		})
	}
}

func TestIMAPResponses(t *testing.T) {
	conf, _ := certificates(t)
	login := Config{User: "probe", Password: file(t, "pässword")}
	start := Config{TLS: "starttls", Insecure: true}
	for name, tc := range map[string]struct {
		config Config
		lines  []string
		want   string
	}{
		"greeting":                 {Config{}, []string{">* OK [CAPABILITY IMAP4rev1] hi", "<a1 CAPABILITY", ">* CAPABILITY IMAP4rev1", ">a1 OK x", "<a2 LOGOUT", "END"}, ""},
		"PREAUTH":                  {Config{}, []string{">* preauth hi", "<a1 CAPABILITY", ">a1 ok", "END"}, ""},
		"BYE":                      {Config{}, []string{">* BYE too many connections"}, "greeting: * BYE too many connections, want * OK"},
		"no greeting":              {Config{}, []string{">220 mx.example.org"}, "greeting: 220 mx.example.org, want * OK"},
		"empty line":               {Config{}, []string{">"}, `greeting: "" is no response`},
		"BYE later":                {Config{}, []string{">* OK", "<a1", ">* BYE shutting down"}, "CAPABILITY: BYE shutting down"},
		"other tag":                {Config{}, []string{">* OK", "<a1", ">a2 OK x"}, `CAPABILITY: "a2 OK x" was not asked for`},
		"literals":                 {Config{}, []string{">* OK", "<a1", ">* LIST () {5}\r\na1 NO {3}\r\nxyz (~{2+}\r\n\r\n)", ">a1 OK x", "END"}, ""},
		"literal that is too long": {Config{}, []string{">* OK", "<a1", ">* X {99999999999999999999}", ">* X {65537}"}, "CAPABILITY: more than 65536 bytes"},
		"login by literal":         {login, []string{">* OK", `<a1 LOGIN "probe" {9}`, ">* OK wait", ">+ go", "<pässword", ">a1 OK x", "<a2 LOGOUT", "END"}, ""},
		"literal refused":          {login, []string{">* OK", `<a1 LOGIN "probe" {9}`, ">a1 BAD no"}, "LOGIN: BAD no, want OK"},
		"password is not told": {login, []string{">* OK", `<a1 LOGIN "probe" {9}`, ">+ go", "<pässword", ">a1 NO pässword is wrong"},
			"LOGIN: NO (password) is wrong, want OK"},
		"STARTTLS":           {start, []string{">* OK", "<a1 STARTTLS", ">a1 OK go", "TLS", "<a2 CAPABILITY", ">a2 OK x", "END"}, ""},
		"STARTTLS with more": {start, []string{">* OK", "<a1 STARTTLS", ">a1 OK go\r\n* BYE x"}, "9 bytes in clear after the reply to STARTTLS"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, script(conf, tc.lines...))
			cfg := tc.config
			cfg.Type, cfg.Timeout = "imap", long
			_, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
		})
	}
}

func FuzzIMAPResponses(f *testing.F) {
	for _, seed := range []string{"* OK x\r\na1 OK x\r\n", "+ go\r\n", "a1 NO x\r\n", "* BYE\r\n", "* X {3}\r\nabc {1+}\r\n\n)\r\na1 OK\r\n", "* {99999}\r\n",
		"* {0}\r\n\r\na1 OK", strings.Repeat("* x\r\n", 2000), strings.Repeat("x", 3000), "\r\n", "a1\r\n", "* X {-1}\r\na1 OK\r\n"} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, tagged bool) {
		source := bytes.NewReader(in)
		s := &imapTalk{talk: &talk{in: bufio.NewReaderSize(source, maxLine), left: maxTalk}}
		awaited := "+"
		if tagged {
			awaited = "a1"
		}
		err := s.until(awaited, "a1")
		if used := len(in) - source.Len(); used > maxTalk+2*maxLine {
			t.Errorf("%d bytes are read for a command", used)
		}
		if err == nil && !bytes.Contains(in, []byte(awaited)) {
			t.Errorf("%q ends a command well without %s", in, awaited)
		}
		if err != nil && failed(err).Error() == "" {
			t.Errorf("%q gives an empty reason", in)
		}
	})
}

func TestLiteral(t *testing.T) {
	for line, want := range map[string]int{"{12}": 12, "x {0}": 0, "x ~{7+}": 7, "": -1, "}": -1, "{": -1, "{}": -1, "{1} ": -1, "{-1}": -1, "{1}{x}": -1,
		"{99999999999}": -1} {
		n, ok := literal([]byte(line))
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q announces %d bytes, want %d (-1: none)", line, n, want)
		}
	}
}
