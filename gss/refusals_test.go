package gss

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/message"
)

// Whoever may not have a zone is logged once, with the reason.
func TestRefusalsAreLogged(t *testing.T) {
	text := strings.Replace(primaryFile(), "{key: k}]", "{key: k}, {prefix: 198.51.100.0/24, key: k2}]", 1)
	text = strings.Replace(text, "[{name: k,", "[{name: k2, secret: "+wrongSecret+"}, {name: k,", 1)
	for name, tc := range map[string]struct {
		text, from, secret string
		want               string
	}{
		"wrong secret": {text, "203.0.113.9", wrongSecret, "msg=\"signature refused\" from=203.0.113.9:5353 key=k cause=\"the signature is wrong; give the key the same secret"},
		"unknown key": {strings.ReplaceAll(strings.ReplaceAll(text, "key: k}", "key: other}"), "name: k,", "name: other,"), "203.0.113.9", wrongSecret,
			"msg=\"signature refused\" from=203.0.113.9:5353 key=k cause=\"the key is unknown"},
		"not signed": {text, "203.0.113.9", "", "msg=\"transfer refused\" from=203.0.113.9:5353 zone=mail.example.org cause=\"transfer.to wants it signed with the key k, and it is not"},
		"other key": {strings.Replace(text, "{key: k}, ", "", 1), "198.51.100.9", peerSecret,
			"msg=\"transfer refused\" from=198.51.100.9:5353 zone=mail.example.org key=k cause=\"transfer.to wants it signed with the key k2, and it is with another"},
		"elsewhere": {strings.Replace(text, "{key: k}, ", "", 1), "203.0.113.9", "", "cause=\"no line of transfer.to has the address or the key"},
		"key elsewhere": {strings.Replace(strings.Replace(text, "{key: k}, ", "", 1), "key: k2", "key: k", 1), "203.0.113.9", peerSecret,
			"cause=\"transfer.to has the key for 198.51.100.0/24 only"},
		"nobody": {nodeFile, "203.0.113.9", "", "cause=\"the zone has no transfer.to"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeciding(t, tc.text)
			var log bytes.Buffer
			d.log = slog.New(slog.NewTextHandler(&log, nil))
			for range 3 {
				d.talk(tc.from, message.TCP, question("mail.example.org.", dns.TypeAXFR), tc.secret)
			}
			if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), tc.want) {
				t.Errorf("the log is\n%swant once\n%s", &log, tc.want)
			}
		})
	}
}

// Whoever sends what is refused, under any number of names, cannot fill the log or the memory.
func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	logged := 0
	for i := range 10 * maxRefusals {
		if r.isNew(refusal{what: fmt.Sprint(i), from: netip.MustParseAddr("192.0.2.1")}, clock) {
			logged++
		}
	}
	if logged != maxRefusals || len(r.told) != maxRefusals {
		t.Errorf("%d are logged, %d remembered", logged, len(r.told))
	}
	if later := clock.Add(refusalTime); !r.isNew(refusal{what: "1"}, later) || len(r.told) > maxRefusals {
		t.Error("after the time of one there is no other")
	}
	if r.isNew(refusal{what: "1"}, clock.Add(refusalTime+time.Second)) {
		t.Error("one is told twice")
	}
}
