package zone

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/internal/netnstest"
)

// TestFileLikeBIND reads a zone file with what BIND alone understands besides us, and all ways to write an entry.
func TestFileLikeBIND(t *testing.T) {
	t.Parallel()
	netnstest.Root(t) // not that it needs it: who is root has BIND
	dir := t.TempDir()
	const text = `$TTL 1h
@ IN SOA ns1 host\.master ( 2026112901 ; serial
	1h 10m 2w
	300 ) ; minimum
	NS	ns1
ns1	5	IN A 192.0.2.1
	IN 6 AAAA 2001:db8::1
$GENERATE 1-3 a$ A 192.0.2.$
$GENERATE 0-20/5 b-$-x 60 IN CNAME a1.example.net.
$GENERATE 1-2 m$ MX "$ a${1}"
$GENERATE 8-11 c${-8,3,d} TXT "$ and \$ and ${0,0,x} and ${0,4,X}"
$GENERATE 17-18 ${0,7,n} PTR d${1,5,o}.example.net.
$GENERATE 171-172 ${0,0,N}.p PTR $.example.net.
$ORIGIN sub
$TTL 90
e	A	192.0.2.2
$INCLUDE part.zone part.example.org.
	AAAA	2001:db8::2
f.example.org. A 192.0.2.3
`
	const part = "g\tA\t192.0.2.4\n@\tTXT\t\"a;b\" c\\;d ( \"e\"\n \\102g )\n"
	for file, text := range map[string]string{"main.zone": text, "part.zone": part} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/usr/bin/named-compilezone", "-q", "-i", "none", "-k", "ignore", "-s", "full", "-o", "-", "example.org", "main.zone")
	cmd.Dir = dir // BIND includes relative to where it runs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s; install what .ci/packages lists (bind9)", err, out)
	}
	theirs, err := Parse("example.org", "bind.zone", strings.NewReader(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := Load("example.org", filepath.Join(dir, "main.zone"))
	if err != nil {
		t.Fatal(err)
	}
	if ours.Len() < 25 {
		t.Errorf("only %d records", ours.Len())
	}
	if diff := cmp.Diff(section(slices.Collect(theirs.All(nil))), section(slices.Collect(ours.All(nil)))); diff != "" {
		t.Errorf("records (-bind +ours):\n%s", diff)
	}
}
