package mailroles_test

import (
	"strings"
	"testing"

	"anycastle/internal/mtlstest"
)

// TestMonitorAlone has a node that only watches need no LUNs, no mailboxes and, unless it listens, no certificates.
func TestMonitorAlone(t *testing.T) {
	const monitor = "  monitor:\n    targets: [{name: a, address: \"192.0.2.1:25\"}]\n"
	node := mtlstest.NewCA(t).Node(t, "node")
	tls := "  tls: {cert: " + node.Cert + ", key: " + node.Key + ", ca: " + node.CA + "}\n"
	for name, tc := range map[string]struct{ text, want string }{
		"alone":            {monitor, ""},
		"listening":        {tls + monitor + "    listen: \":9110\"\n", ""},
		"without TLS":      {monitor + "    listen: \":9110\"\n", "mail.tls.cert: missing"},
		"beside smtp":      {tls + monitor + "  smtp: {}\n", "mail.luns: no LUN"},
		"beside a witness": {tls + monitor + "  witness: {}\n", "mail.luns: no LUN"},
		"with LUNs":        {monitor + "  luns: [{name: a}]\n", "mail.luns[0].lmtp: missing"},
		"nothing to watch": {"  monitor: {}\n", "mail.monitor.targets: no target"},
		"nothing":          {tls + "  luns: [{name: a, lmtp: \"192.0.2.1:1\", imap: \"192.0.2.1:2\"}]\n", "no role; add smtp, submission, imap, store, witness or monitor"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decode(t, "mail:\n"+tc.text)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
