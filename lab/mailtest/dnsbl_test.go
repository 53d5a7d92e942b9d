package mailtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"anycastle/internal/proctest"
)

// blockLists is a site selector that serves two block lists, of which the second lists everybody.
const blockLists = `gss:
  listen: [127.0.0.53:53]
  zones:
    - name: bl.example.org
      primary: ns.bl.example.org
      contact: hostmaster.example.org
      records: |
        @            NS  ns
        ns           A   127.0.0.53
        97.0.0.127   A   127.0.0.4
        98.0.0.127   A   127.255.255.254
    - name: all.example.org
      primary: ns.all.example.org
      contact: hostmaster.example.org
      records: |
        @   NS  ns
        ns  A   127.0.0.53
        *   A   127.0.0.2
`

// TestDNSBL has block lists served by our own site selector, and clients that come from several addresses.
func TestDNSBL(t *testing.T) {
	s := newSite(t)
	s.write("gss.yml", blockLists)
	proctest.Check(t, os.Mkdir(s.path("run-gss"), 0o700))
	gss := proctest.Start(t, s.ns, "gss", s.dir, binary, "gss", "--config", s.path("gss.yml"), "--run-dir", s.path("run-gss"))
	proctest.Eventually(t, "the selector answers", func() bool {
		if gss.Ended() {
			t.Fatalf("gss has ended:\n%s", gss.Log())
		}
		return s.dial("127.0.0.53:53") == nil
	})
	s.smtp = `    screen:
      greet_delay: 0s
      dnsbl: {resolver: "127.0.0.53:53", lists: [{zone: bl.example.org}, {zone: all.example.org}]}
`
	s.start()
	proctest.Eventually(t, "the list that lists everybody is left out", func() bool {
		said, err := exec.Command(binary, "show", "mail", "--role", "smtp", "--run-dir", s.path("run-smtp")).CombinedOutput()
		proctest.Check(t, err)
		return strings.Contains(string(said), "it lists 127.0.0.1 (as 127.0.0.2), so it lists everybody")
	})
	for from, want := range map[string]string{
		"127.0.0.96": "",
		"127.0.0.97": "554 5.7.1 mx.example.org Your address [127.0.0.97] is listed by bl.example.org",
		"127.0.0.98": "", // an error code lists nobody
	} {
		said, err := s.try("swaks", "--server", host, "--local-interface", from, "--from", stranger, "--to", alice, "--data", text(from))
		if (err == nil) != (want == "") || !strings.Contains(said, want) {
			t.Errorf("swaks from %s: %v, want %q\n%s", from, err, want, said)
		}
	}
	if got := s.read(alice); len(got) != 2 {
		t.Errorf("alice has %d messages, want 2: %q", len(got), got)
	}
}
