package probe

import (
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"defaults":       {"{}", ""},
		"all given":      {"{type: tcp, port: 25, interval: 500ms, timeout: 400ms, fail: 3, pass: 1}", ""},
		"extremes":       {"{interval: 10ms, timeout: 10ms, fail: 100, pass: 100}", ""},
		"type":           {"{type: tpc}", `node.yml:1: probe.type: no probe is of type "tpc"; use one of icmp, tcp, tls, http, https, smtp, lmtp, imap, dns, exec, agent-check`},
		"interval":       {"{interval: 9ms, timeout: 1ms}", "node.yml:1: probe.interval: 9ms is too short; at least 10ms"},
		"timeout zero":   {"{timeout: 0}", "node.yml:1: probe.timeout: 0s must be more than 0 and at most the interval, 1s"},
		"timeout long":   {"{timeout: 2s}", "node.yml:1: probe.timeout: 2s must be more than 0 and at most the interval, 1s"},
		"fail zero":      {"{fail: 0}", "node.yml:1: probe.fail: 0 must be from 1 to 100"},
		"pass many":      {"{pass: 101}", "node.yml:1: probe.pass: 101 must be from 1 to 100"},
		"slow interval":  {"{slow_interval: 1s}", "node.yml:1: probe.slow_interval: 1s must be longer than the interval, 1s"},
		"slow is fine":   {"{slow_interval: 1001ms, window: {size: 64, fail: 64}}", ""},
		"window size":    {"{window: {size: 65, fail: 2}}", "node.yml:1: probe.window.size: 65 must be from 2 to 64"},
		"window fail":    {"{window: {size: 8, fail: 9}}", "node.yml:1: probe.window.fail: 9 must be from 2 to the window's size, 8"},
		"window half":    {"{window: {fail: 9}}", "node.yml:1: probe.window.size: 0 must be"},
		"port too large": {"{port: 65536}", `node.yml:1: probe.port: "65536" is no whole number from 0 to 65535`},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := complaint(t, tc.text)
			if (got == "") != (tc.want == "") || !strings.HasPrefix(got, tc.want) {
				t.Errorf("complaint is %q, want %q", got, tc.want)
			}
		})
	}
}
