package reach

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/porttest"
)

// small is a matrix as Parse reads it.
const small = `
# who may
places a b
smtp tcp 203.0.113.25:25 + o # mail
dns  dns [2001:db8::53]:53 . +
`

func TestParse(t *testing.T) {
	t.Parallel()
	m, err := Parse(small)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Places) != 2 || len(m.Services) != 2 || m.Services[0].Answers[1] != Own || m.Services[1].Answers[0] != Silent ||
		m.Services[1].Target.String() != "dns [2001:db8::53]:53" {
		t.Errorf("got %+v", m)
	}
}

func TestParseComplaints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new, complaint string }{
		{"no places", "places a b\n", "", "line 3: service smtp has 2 cells for 0 places"},
		{"places without a place", "places a b", "places", "line 3: one line of places"},
		{"places twice", "dns  dns", "places c\ndns  dns", "line 5: one line of places"},
		{"cells missing", "+ o", "+", "line 4: service smtp has 1 cells for 2 places"},
		{"cell", "+ o", "+ x", `line 4: "x" is no cell`},
		{"protocol", "smtp tcp", "smtp sctp", `"sctp 203.0.113.25:25" is nothing to ask`},
		{"address", "203.0.113.25:25", "203.0.113.25", "not an ip:port"},
		{"service twice", "dns  dns", "smtp dns", "line 5: service smtp is given twice"},
	} {
		text := strings.Replace(small, c.old, c.new, 1)
		if text == small {
			t.Errorf("%s: the case changes nothing", c.name)
		}
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.complaint)
		}
	}
	if _, err := Parse("places a\n"); err == nil {
		t.Error("a matrix without services is taken")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(small)
	f.Add("places a\nx tcp 1.2.3.4:5 +")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		for _, s := range m.Services {
			if len(s.Answers) != len(m.Places) {
				t.Errorf("%s has %d cells for %d places", s.Name, len(s.Answers), len(m.Places))
			}
			if _, err := ParseTarget(s.Target.String()); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestProbe(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	deaf, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	free := porttest.Free(t, "127.0.0.1")
	var targets []Target
	for _, text := range []string{"tcp " + ln.Addr().String(), "dns " + deaf.LocalAddr().String(), "tcp " + free.String()} {
		target, err := ParseTarget(text)
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, target)
	}
	for i, r := range Probe(t.Context(), targets, 200*time.Millisecond) {
		if want := []string{SaysOpen, SaysSilent, SaysRefused}[i]; r.Says != want || r.Target != targets[i] {
			t.Errorf("%v says %s, want %s", r.Target, r.Says, want)
		}
	}
	if got := word(errors.Join(unix.ENETUNREACH)); got != SaysUnreachable {
		t.Errorf("no route is %q", got)
	}
}
