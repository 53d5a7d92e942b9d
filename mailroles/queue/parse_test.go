package queue

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/internal/config"
)

func TestDestinationOf(t *testing.T) {
	for address, want := range map[string]string{
		"a@b.example": "b.example", "A.b+c@B.Example": "b.example", "a b@b.example": "b.example", `a"@b@c.example`: "c.example", ".a@b.example": "b.example",
		"a@[192.0.2.1]": "[192.0.2.1]", "a@[IPv6:2001:DB8::1]": "[ipv6:2001:db8::1]", "a@localhost": "localhost", "a@_x.example": "_x.example",
		"jürgen@b.example": "b.example", "a@bücher.example": "xn--bcher-kva.example",
		"": "", "a": "", "@b.example": "", "a@": "", "a@b..example": "", "a@-b.example": "", "a@b.example.": "", "\x00@b.example": "", "a\x7f@b.example": "",
		"a@[192.0.2]": "", "a@[2001:db8::1]": "", "a@[IPv6:192.0.2.1]": "",
		"a@[IPv6:fe80::1%eth0]": "", "a\r\n@b.example": "", "a@b.example\r\nDATA": "", "\xff@b.example": "", "<a@b.example>": "", "a@b.example ": "",
		strings.Repeat("a", 250) + "@b.example": "", "a@" + strings.Repeat("b", 64) + ".example": "", "a@[": "", "a@[]": "",
	} {
		if got, ok := destinationOf(address); got != want && ok || ok != (want != "") {
			t.Errorf("%q goes to %q, %v; want %q", address, got, ok, want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"a@b.example", "a b@[IPv6:::1]", "jürgen@bücher.example", "a@[192.0.2.1]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		to, ok := destinationOf(address)
		if !ok {
			return
		}
		if strings.ContainsAny(address+to, "\r\n\x00") || strings.ContainsAny(to, "<> @") || to == "" || !isASCII(to) {
			t.Errorf("%q goes to %q", address, to)
		}
		again, ok := destinationOf("x@" + to)
		if !ok || again != to {
			t.Errorf("%q goes to %q, and mail to that to %q", address, to, again)
		}
	})
}

// sample is an entry with all its fields.
func sample() *entry {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	e := &entry{
		ID: newID(at), Tx: "t", From: alice, User: alice, Arrived: at, Size: 5, EightBit: true, UTF8: true, Return: "FULL", EnvID: "e", Held: "ordered",
	}
	e.addRecipient("a.example", &recipient{Address: "x@a.example", Notify: "SUCCESS,FAILURE", ORcpt: "rfc822;y@b.example", State: Waiting, Code: 450, Status: "4.2.0", Last: "Later", Host: "mx", At: at})
	e.addRecipient("a.example", &recipient{Address: "y@a.example", State: Delivered, Told: true, TLS: "TLS 1.3"})
	e.addRecipient("b.example", &recipient{Address: "z@b.example", State: Failed})
	e.Legs[0].Attempts, e.Legs[0].DelayTold = 3, true
	return e
}

func TestEnvelopeOnDisk(t *testing.T) {
	e := sample()
	text, err := e.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeEntry(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := got.encode()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(again)); diff != "" {
		t.Errorf("it is another one (-want +got):\n%s", diff)
	}
	for i := range text { // no byte may change
		bad := bytes.Clone(text)
		bad[i] ^= 1
		if _, err := decodeEntry(bad); err == nil {
			t.Fatalf("byte %d changed and it is taken", i)
		}
	}
	for n := range text {
		if _, err := decodeEntry(text[:n]); err == nil {
			t.Fatalf("it is taken with %d bytes", n)
		}
	}
}

func TestEnvelopeThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*entry){
		"id":                func(e *entry) { e.ID = "../../etc" },
		"sender":            func(e *entry) { e.From = "x" },
		"size":              func(e *entry) { e.Size = -1 },
		"no leg":            func(e *entry) { e.Legs = nil },
		"nil leg":           func(e *entry) { e.Legs[0] = nil },
		"nobody":            func(e *entry) { e.Legs[0].Recipients = nil },
		"nil recipient":     func(e *entry) { e.Legs[0].Recipients[0] = nil },
		"state":             func(e *entry) { e.Legs[0].Recipients[0].State = "lost" },
		"other destination": func(e *entry) { e.Legs[0].Recipients[0].Address = "x@b.example" },
		"line break":        func(e *entry) { e.Legs[0].Recipients[0].ORcpt = "rfc822;a\r\nb" },
		"RET":               func(e *entry) { e.Return = "ALL" },
	} {
		e := sample()
		change(e)
		text, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeEntry(text); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func FuzzEntry(f *testing.F) {
	text, err := sample().encode()
	if err != nil {
		f.Fatal(err)
	}
	_, body, _ := bytes.Cut(text, []byte("\n"))
	f.Add(body)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"id":"00000000000000aaaaaaaa","legs":[{"destination":"a","recipients":[{"address":"x@a","state":"waiting"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := decodeEntry(withSum(body))
		if err != nil {
			return
		}
		again, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeEntry(again); err != nil {
			t.Errorf("%s is taken, and then not: %v", body, err)
		}
	})
}

func TestXtext(t *testing.T) {
	for in, want := range map[string]string{
		"rfc822;a+b=c@d.example": "rfc822;a+2Bb+3Dc@d.example", "utf-8;jürgen\\@d.example": `utf-8;j\x{FC}rgen\x{5C}@d.example`, "none": "",
	} {
		if got := xtextAddress(in); got != want {
			t.Errorf("%q is sent as %q, want %q", in, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	q := &Queue{}
	q.opt.Config.SetDefaults()
	for attempts, want := range map[int]time.Duration{1: 5 * time.Minute, 2: 10 * time.Minute, 3: 20 * time.Minute, 6: 160 * time.Minute, 7: 4 * time.Hour, 1000: 4 * time.Hour} {
		waits := map[time.Duration]bool{}
		for range 50 {
			wait := q.backoff(attempts)
			waits[wait] = true
			if wait < want*9/10 || wait > want*11/10+1 {
				t.Errorf("after %d attempts it waits %v, want about %v", attempts, wait, want)
			}
		}
		if len(waits) < 10 {
			t.Errorf("after %d attempts the waits are not shuffled", attempts)
		}
	}
}

func TestConfig(t *testing.T) {
	good := "queue:\n  resolvers: [192.0.2.53:53]\n  smarthost: {host: relay.example.net:587}\n"
	secret := writeFile(t, "secret\n")
	for _, tc := range []struct{ old, new, want string }{
		{"", "", ""},
		{"587}", "587, user: us, password_file: " + secret + "}", ""},
		{"192.0.2.53:53", "192.0.2.53:0", "queue.resolvers[0]: 192.0.2.53:0 is no resolver"},
		{"relay.example.net:587", "relay.example.net", "queue.smarthost.host:"},
		{"587}", "587, user: us}", "queue.smarthost.user: user and password_file go together"},
		{"587}", "587, user: us, password_file: /none}", "queue.smarthost.password_file: open /none"},
		{"587}", "587, ca: " + secret + "}", "queue.smarthost.ca:"},
		{"queue:\n", "queue:\n  retry_min: 0s\n", "queue.retry_min: 0s must be from 1s"},
		{"queue:\n", "queue:\n  retry_max: 1m\n", "queue.retry_max: 1m0s must be from retry_min"},
		{"queue:\n", "queue:\n  life: 1m\n", "queue.life: 1m0s must be from retry_min"},
		{"queue:\n", "queue:\n  delay_notice: 200h\n", "queue.delay_notice:"},
		{"queue:\n", "queue:\n  sessions: 0\n", "queue.sessions: 0 must be"},
		{"queue:\n", "queue:\n  per_destination: 51\n", "queue.per_destination: 51 must be"},
		{"queue:\n", "queue:\n  max_recipients: 1\n", "queue.max_recipients: 1 must be"},
	} {
		text := strings.Replace(good, tc.old, tc.new, 1)
		doc, err := config.Parse("node.yml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var c Config
		c.Validate(doc.Decode("queue", &c))
		if err := doc.Err(); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", text, err, tc.want)
		}
	}
}

// A queue that may not be read, such as one that was copied back by another user, is as good as before.
func TestWhatIsDamageOfAnEnvelope(t *testing.T) {
	for err, want := range map[error]bool{
		&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}: false,
		&fs.PathError{Op: "open", Path: "x", Err: syscall.EPERM}:  false,
		&fs.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}: false,
		&fs.PathError{Op: "read", Path: "x", Err: syscall.EIO}:    true,
		&fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}: true,
		errors.New("its checksum is wrong"):                       true,
	} {
		if got := !lacks(err); got != want {
			t.Errorf("%v is damage: %v, want %v", err, got, want)
		}
	}
}
