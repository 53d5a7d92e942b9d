package mesh

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"anycastle/internal/porttest"
)

// What a member tells comes to all others that are there, once, whole, and under its name; it is in no map.
func TestTell(t *testing.T) {
	addrs := []netip.AddrPort{porttest.Free(t, "127.0.0.2"), porttest.Free(t, "127.0.0.3"), porttest.Free(t, "127.0.0.4")}
	heard := map[string]chan string{}
	var peers []*peer
	for i, name := range []string{"a", "b", "c"} {
		said := make(chan string, 10)
		heard[name] = said
		told := func(member, text string) { said <- member + ": " + text }
		peers = append(peers, startPeer(t, Config{addrs[i], testKey, addrs, name}, Options{Told: told}))
	}
	eventually(t, "all meet", func() bool { return peers[0].sees() == "b alive, c alive" && peers[2].sees() == "a alive, b alive" })
	text := strings.Repeat("t", MaxTold)
	check(t, peers[0].Tell([]byte(text)))
	for _, name := range []string{"b", "c"} {
		select {
		case got := <-heard[name]:
			if got != "a: "+text {
				t.Errorf("%s heard %.80q", name, got)
			}
		case <-time.After(patience):
			t.Errorf("%s heard nothing", name)
		}
	}
	if err := peers[0].Tell(make([]byte, MaxTold+1)); err == nil {
		t.Error("told more than fits a packet")
	}
	check(t, peers[0].end())
	check(t, peers[0].Tell([]byte("after the end")))
	if n := len(heard["a"]) + len(heard["b"]) + len(heard["c"]); n > 0 || len(peers[1].data.Snapshot()) > 0 {
		t.Errorf("%d more were heard", n)
	}
}
