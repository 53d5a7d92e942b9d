package mailtest

import (
	"strings"
	"testing"
)

func TestPolicyIsServed(t *testing.T) {
	s := newSite(t)
	s.more["smtp"] = `    mta_sts:
      listen: "127.0.0.1:443"
      policies: [{domain: example.org, mode: enforce, mx: [mx.example.org], max_age: 24h}]
`
	s.startRole("smtp")
	const want = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmax_age: 86400\r\n"
	got := s.must("curl", "-sS", "--fail", "--cacert", s.tls.CA, "https://mta-sts.example.org/.well-known/mta-sts.txt")
	if got != want {
		t.Errorf("the policy is %q, want %q", got, want)
	}
	for _, url := range []string{"https://mta-sts.example.org/", "https://mx.example.org/.well-known/mta-sts.txt"} {
		if said, err := s.try("curl", "-sS", "--fail", "--cacert", s.tls.CA, url); err == nil || !strings.Contains(said, "404") {
			t.Errorf("%s: %v, want 404:\n%s", url, err, said)
		}
	}
}
