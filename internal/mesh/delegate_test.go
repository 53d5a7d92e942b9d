package mesh

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/internal/porttest"
)

func TestWhoSpeaksOtherwiseIsKeptOut(t *testing.T) {
	good := memberlist.Node{Name: "b", Addr: []byte{192, 0, 2, 1}, Port: 7946, PMin: 1, PMax: 5, PCur: 5, DMin: 1, DMax: 1, DCur: 1}
	m, err := New(Config{Name: "a"}, Options{Map: NewMap("a", nil)})
	check(t, err)
	d := delegate{m}
	check(t, d.NotifyAlive(&good))
	for name, change := range map[string]func(*memberlist.Node){
		"older memberlist": func(n *memberlist.Node) { n.PCur = 2 },
		"other map":        func(n *memberlist.Node) { n.DCur = 2 },
		"only other maps":  func(n *memberlist.Node) { n.DMin = 2 },
		"no map":           func(n *memberlist.Node) { n.DMax = 0 },
		"much metadata":    func(n *memberlist.Node) { n.Meta = make([]byte, memberlist.MetaMaxSize+1) },
		"no address":       func(n *memberlist.Node) { n.Addr = []byte{1, 2, 3} },
		"no name":          func(n *memberlist.Node) { n.Name = "" },
	} {
		n := good
		change(&n)
		if err := d.NotifyAlive(&n); err == nil {
			t.Errorf("%s: let in", name)
		}
	}
	if n := testutil.ToFloat64(m.counters.rejected.WithLabelValues(reasonMembers)); n != 7 {
		t.Errorf("counted %v", n)
	}
}

// What a member with the key sends that it should not is counted, told at most once a minute, and not taken.
func TestBuggyMember(t *testing.T) {
	p := startPeer(t, Config{porttest.Free(t, "127.0.0.2"), testKey, nil, "a"}, Options{})
	eventually(t, "a runs", func() bool { return len(p.Members()) == 1 })
	soon := time.Now().Add(2 * time.Hour).UnixMilli()
	full := make([]entry, MaxEntries)
	for i := range full {
		full[i] = entry{key: fmt.Sprintf("k%08d", i), stamp: stamp{time.Now().UnixMilli(), 0, "b"}}
	}
	for range 3 {
		p.receive([]byte{9}, true)
		p.receive(encodeEntries([]entry{{key: "ahead", stamp: stamp{soon, 0, "b"}}}), true)
		p.receive(encodeLeave("a"), true) // about us
		p.receive(encodeLeave("nobody"), true)
	}
	check(t, p.data.Set("own", nil))
	p.receive(encodeEntries(full), false)
	for reason, want := range map[string]int{reasonFormat: 3, reasonClock: 3, reasonFull: 1} {
		if got := p.rejected(reason); got != want {
			t.Errorf("%s: counted %d, want %d", reason, got, want)
		}
	}
	for _, text := range []string{"what does not decode", "a change comes from the future", "the map is full"} {
		if n := p.log.count(text); n != 1 {
			t.Errorf("%q was said %d times", text, n)
		}
	}
	if m := p.Members(); len(m) != 1 || m[0].State != Alive {
		t.Errorf("members %v", m)
	}
}

// A member too many is refused, and somebody is told.
func TestMemberTooManyIsLogged(t *testing.T) {
	var text bytes.Buffer
	m, err := New(Config{Name: "lb0", Listen: addrPort("198.51.100.1:7946"), Key: make(Key, 32)}, Options{
		Map: NewMap("lb0", nil), Group: "lb", Log: slog.New(slog.NewTextHandler(&text, nil)),
	})
	check(t, err)
	for i := range MaxMembers {
		m.members.set(fmt.Sprintf("lb%d", i), addrPort("198.51.100.1:7946"), Alive, time.Now())
	}
	more := &memberlist.Node{
		Name: "one-more", Addr: net.IPv4(198, 51, 100, 9), Port: 7946,
		PMax: memberlist.ProtocolVersionMax, PCur: memberlist.ProtocolVersionMax, DMin: wireVersion, DMax: wireVersion, DCur: wireVersion,
	}
	for range 3 {
		if err := (delegate{m}).NotifyAlive(more); err == nil {
			t.Error("one member too many is let in")
		}
	}
	const want = `level=WARN msg="a member is not let in" member=one-more peer=198.51.100.9:7946 err="there are 64 members already"`
	if strings.Count(text.String(), "\n") != 1 || !strings.Contains(text.String(), want) {
		t.Errorf("the log is\n%s\nwant one line %s", &text, want)
	}
}
