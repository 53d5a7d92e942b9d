package imapfront

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// turnstile is a throttle that notes what it is told.
type turnstile struct {
	mu    sync.Mutex
	shut  bool
	wait  time.Duration
	notes []string
}

func (g *turnstile) Check(source netip.Addr, account string) (time.Duration, bool) {
	g.note("check", source, account)
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(g.wait, time.Millisecond), !g.shut
}

func (g *turnstile) Failed(source netip.Addr, account string) { g.note("failed", source, account) }
func (g *turnstile) Succeeded(source netip.Addr, account string) {
	g.note("succeeded", source, account)
}
func (g *turnstile) Undecided(source netip.Addr, account string) {
	g.note("undecided", source, account)
}

func (g *turnstile) note(what string, source netip.Addr, account string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.notes = append(g.notes, fmt.Sprint(what, " ", source, " ", account))
}

func TestThrottle(t *testing.T) {
	gate := &turnstile{}
	r := newRig(t, func(o *Options) { o.Throttle = gate })
	client := r.connect()
	client.write("a LOGIN " + alice + " wrong\r\n")
	client.expect("a NO [AUTHENTICATIONFAILED] Wrong user or password\r\n")
	gate.mu.Lock()
	gate.shut = true
	gate.mu.Unlock()
	client.write("b LOGIN " + alice + " " + secret + "\r\n")
	client.expect("b NO [UNAVAILABLE] Too many wrong passwords, try again later\r\n")
	gate.mu.Lock()
	gate.shut = false
	gate.mu.Unlock()
	client.write("c LOGIN " + alice + " " + secret + "\r\n")
	client.expect("c OK ")
	who := " 127.0.0.1 " + alice
	want := []string{"check" + who, "failed" + who, "check" + who, "check" + who, "succeeded" + who}
	if !slices.Equal(gate.notes, want) {
		t.Errorf("the throttle is told %q, want %q", gate.notes, want)
	}
}

// TestEndWhileALoginWaits ends the role while a client waits for its turn.
func TestEndWhileALoginWaits(t *testing.T) {
	gate := &turnstile{wait: time.Hour}
	r := newRig(t, func(o *Options) { o.Throttle = gate })
	client := r.connect()
	client.write("l LOGIN " + alice + " " + secret + "\r\n")
	waitFor(t, func() bool {
		gate.mu.Lock()
		defer gate.mu.Unlock()
		return len(gate.notes) > 0
	})
	r.stop()
	if got := client.over(); got != "l NO "+strings.TrimPrefix(ending, "* BYE ")+ending {
		t.Errorf("the client is told %q", got)
	}
	r.ended()
	if got := r.tally.Counts().Rejects; len(got) > 0 {
		t.Errorf("counted are %v", got)
	}
}

func TestAuthenticateLogin(t *testing.T) {
	b64 := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) + "\r\n" }
	r := newRig(t, nil)
	for name, words := range map[string][]string{ // what the client says, and hears
		"asked twice":      {"a AUTHENTICATE LOGIN\r\n", "+ " + b64("Username:"), b64(alice), "+ " + b64("Password:"), b64(secret), "a OK "},
		"with a response":  {"a authenticate login " + b64(alice), "+ " + b64("Password:"), b64(secret), "a OK "},
		"wrong password":   {"a AUTHENTICATE LOGIN " + b64(alice), "+ " + b64("Password:"), b64("x"), "a NO [AUTHENTICATIONFAILED]"},
		"cancelled":        {"a AUTHENTICATE LOGIN\r\n", "+ " + b64("Username:"), "*\r\n", "a BAD Cancelled\r\n"},
		"cancelled late":   {"a AUTHENTICATE LOGIN " + b64(alice), "+ " + b64("Password:"), "*\r\n", "a BAD Cancelled\r\n"},
		"not in base64":    {"a AUTHENTICATE LOGIN\r\n", "+ " + b64("Username:"), "!\r\n", "a BAD Malformed response\r\n"},
		"another's mail":   {"a AUTHENTICATE PLAIN " + b64("bob\x00"+alice+"\x00"+secret), "a NO [AUTHORIZATIONFAILED]"},
		"empty response":   {"a AUTHENTICATE PLAIN =\r\n", "a BAD Malformed response\r\n"},
		"no such":          {"a AUTHENTICATE GSSAPI\r\n", "a NO No such mechanism\r\n"},
		"plain, asked for": {"a AUTHENTICATE PLAIN\r\n", "+ \r\n", b64("\x00" + alice + "\x00" + secret), "a OK "},
	} {
		t.Run(name, func(t *testing.T) {
			client := r.connect()
			client.t = t
			for i, text := range words {
				if i%2 == 0 {
					client.write(text)
				} else {
					client.expect(text)
				}
			}
		})
	}
}
