package screen

import (
	"strings"
	"testing"

	"anycastle/internal/config"
)

func TestConfig(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"defaults", "screen: {}", ""},
		{"lists", "screen: {dnsbl: {threshold: 3, lists: [{zone: a.example, weight: 2}, {zone: b.example}, {zone: c.example, weight: -5}]}}", ""},
		{"answers", "screen: {dnsbl: {lists: [{zone: a.example, answers: [127.0.0.2, 127.0.0.4-127.0.1.255]}]}}", ""},
		{"never reached", "screen: {dnsbl: {threshold: 3, lists: [{zone: a.example}, {zone: c.example, weight: -5}]}}",
			"dnsbl.threshold: the weights of all lists make 1, so 3 is never reached"},
		{"no weight", "screen: {dnsbl: {lists: [{zone: a.example, weight: 0}]}}", "dnsbl.lists[0].weight: 0 counts nothing"},
		{"error codes", "screen: {dnsbl: {lists: [{zone: a.example, answers: [127.0.0.2, 127.255.255.254]}]}}",
			"dnsbl.lists[0].answers[1]: 127.255.255.254 is no answer of a list"},
		{"elsewhere", "screen: {dnsbl: {lists: [{zone: a.example, answers: [192.0.2.1-192.0.2.9]}]}}",
			"dnsbl.lists[0].answers[0]: 192.0.2.1 is no answer of a list"},
		{"a range", "screen: {dnsbl: {lists: [{zone: a.example, answers: [127.0.0.9-127.0.0.2]}]}}", "dnsbl.lists[0].answers[0]"},
		{"zone", "screen: {dnsbl: {lists: [{zone: 'http://x'}]}}", "dnsbl.lists[0].zone: \"http://x\" is no domain name"},
		{"twice", "screen: {dnsbl: {lists: [{zone: a.example}, {zone: A.example.}]}}", "dnsbl.lists[1].zone: a.example is there twice"},
		{"none", "screen: {dnsbl: {}}", "dnsbl.lists: no list"},
		{"sessions", "screen: {max_sessions: 0}", "max_sessions: 0 must be from 1"},
		{"delay", "screen: {greet_delay: 2m}", "greet_delay: 2m0s must be from 0s to 1m"},
	} {
		doc, err := config.Parse("node.yml", []byte(tc.text+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		var c Config
		c.Validate(doc.Decode("screen", &c))
		if err := doc.Err(); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}
