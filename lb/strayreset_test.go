package lb

import (
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"
	"anycastle/lb/agent"

	"github.com/gopacket/gopacket/layers"
)

// TestAgentIgnoresStrayResets sends what clients answer when a server that they have given up retries its SYN-ACKs, and a
// balancer has given their slot to another real meanwhile. The kernel counts that among what a listener has dropped.
func TestAgentIgnoresStrayResets(t *testing.T) {
	p := newPair(t)
	p.start()
	startService(t, p.real, service{Listen: []string{agentVIP4.String()}})
	p.report("a listener", agentVIP4, listening)
	f := pkttest.New(netip.MustParseAddrPort("198.51.100.1:4242"), agentVIP4)
	tcp := f.L4.(*layers.TCP)
	tcp.SYN, tcp.ACK, tcp.RST = false, false, true
	segment := f.Bytes(t)[pkttest.L4Start:]
	conn, err := p.dial(t.Context(), "ip4:tcp", agentVIP4.Addr().String())
	check(t, err)
	defer conn.Close()
	for range 20 {
		_, err := conn.Write(segment)
		check(t, err)
	}
	_, err = p.ask(agentVIP4, patience)
	check(t, err)
	port := p.report("a connection after them", agentVIP4, func(port agent.Port) bool { return port.SYNACKs == 1 })
	if port.Overflows != 0 {
		t.Errorf("they are taken for connections that found a full queue: %+v", port)
	}
	for len(p.reader.updates) > 0 {
		if u := <-p.reader.updates; len(u.Verdicts) > 0 {
			t.Errorf("verdicts %+v", u.Verdicts)
		}
	}
}
