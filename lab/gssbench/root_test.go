package gssbench

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"anycastle/internal/proctest"
)

// startRoot runs a root server, of BIND, on the host "root": it delegates example.org to the site selectors, as its parent does
// in the Internet.
func (w *world) startRoot() {
	w.t.Helper()
	var zone strings.Builder
	fmt.Fprintf(&zone, `$TTL 86400
. SOA root. root. 1 3600 600 86400 60
. NS root.
root. A %v
`, w.addr["root"])
	for i, address := range announced() {
		fmt.Fprintf(&zone, "example.org. NS ns%d.example.org.\nns%[1]d.example.org. A %s\n", i+1, address)
	}
	w.write("root", "zone", zone.String())
	w.write("root", "config", `options {
	directory "."; pid-file none; lock-file none; session-keyfile "./session.key";
	listen-on port 53 { any; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no;
};
controls { };
zone "." { type primary; file "zone"; };
`)
	p := w.startCopy("root", "/usr/sbin/named", "-g", "-c", "config")
	proctest.Eventually(w.t, "the root server answers", func() bool {
		if p.Ended() {
			w.t.Fatalf("the root server ends: %v", p.Wait())
		}
		m, err := w.query("root", "example.org.", dns.TypeNS)
		return err == nil && len(m.Ns) == len(announced())
	})
}

// hints are the root servers, as a resolver is told of them.
func (w *world) hints() string {
	return fmt.Sprintf(". 86400 NS root.\nroot. 86400 A %v\n", w.addr["root"])
}
