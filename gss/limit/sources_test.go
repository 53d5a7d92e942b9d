package limit

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/internal/config"
)

func TestQuery(t *testing.T) {
	l := newLimiter(t, func(c *Config) { c.QueriesPerSecond, c.TCPQueriesPerSecond = 50, 100 })
	count := func(from string, stream bool, at time.Duration, perSecond int) (let int) {
		for i := range perSecond {
			now := testStart.Add(at + time.Duration(i)*time.Second/time.Duration(perSecond))
			if l.Query(now, netip.MustParseAddr(from), stream) {
				let++
			}
		}
		return let
	}
	for _, tc := range []struct {
		name      string
		from      string
		stream    bool
		at        time.Duration
		perSecond int
		low, high int
	}{
		{"below", "192.0.2.1", false, 0, 50, 50, 50},
		{"the credit and a second's rate", "198.51.100.1", false, 0, 500, 98, 101},
		{"then the rate alone", "198.51.100.2", false, time.Second, 500, 49, 51},
		{"TCP is counted apart", "198.51.100.3", true, time.Second, 1000, 198, 201},
		{"another network", "203.0.113.1", false, time.Second, 50, 50, 50},
	} {
		if got := count(tc.from, tc.stream, tc.at, tc.perSecond); got < tc.low || got > tc.high {
			t.Errorf("%s: %d, want %d to %d", tc.name, got, tc.low, tc.high)
		}
	}
	off := newLimiter(t, func(c *Config) { c.TCPQueriesPerSecond = 0 })
	for range 10_000 {
		if !off.Query(testStart, victim, false) || !off.Query(testStart, victim, true) {
			t.Fatal("a limit that is off")
		}
	}
	logOnly := newLimiter(t, func(c *Config) { c.QueriesPerSecond, c.LogOnly = 1, true })
	for range 10 {
		if !logOnly.Query(testStart, victim, false) {
			t.Fatal("held back")
		}
	}
	if diff := cmp.Diff(Count{UDPQuery, 0, 9}, logOnly.Counts()[UDPQuery]); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestOpen(t *testing.T) {
	l := newLimiter(t, func(c *Config) {
		c.Connections, c.NetworkConnections, c.Exempt = 5, 2, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	})
	var open []*Conn
	dial := func(from string, want Reason) {
		t.Helper()
		c, why := l.Open(testStart, netip.MustParseAddr(from))
		if c == nil && why != want || c != nil && want != reasons {
			t.Errorf("%s: %v, %v; want %v", from, c != nil, why, want)
		}
		if c != nil {
			open = append(open, c)
		}
	}
	const fine = reasons
	dial("192.0.2.1", fine)
	dial("192.0.2.2", fine)
	dial("192.0.2.3", NetworkConnection)
	dial("203.0.113.1", fine)
	dial("203.0.113.2", fine)
	dial("203.0.113.3", fine) // exempt from the network's limit, not from that of all
	dial("203.0.113.4", Connection)
	dial("198.51.100.1", Connection)
	open[0].Close()
	open[0].Close()
	dial("198.51.100.1", fine)
	dial("192.0.2.9", Connection)
	for _, c := range open {
		c.Close()
	}
	if l.conns != 0 || len(l.networks) != 0 {
		t.Errorf("%d connections, networks %v are left", l.conns, l.networks)
	}
	next := newLimiter(t, func(c *Config) { c.NetworkConnections, c.Connections, c.LogOnly = 1, 2, true })
	next.Succeed(l)
	for _, want := range []Reason{fine, fine, Connection} {
		if c, why := next.Open(testStart, victim); c == nil && why != want || c != nil && want != fine {
			t.Errorf("of its successor, which only logs: %v, %v; want %v", c != nil, why, want)
		}
	}
	want := []Count{{Reason: Dropped}, {Reason: Slipped}, {Reason: UDPQuery}, {Reason: TCPQuery}, {Connection, 4, 0}, {NetworkConnection, 1, 1}}
	if diff := cmp.Diff(want, next.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestTop(t *testing.T) {
	l := newLimiter(t, func(c *Config) { c.ResponsesPerSecond, c.TCPQueriesPerSecond = 10, 10 })
	six := netip.MustParseAddr("2001:db8:1:100::1")
	for i := range 20_000 {
		now := testStart.Add(time.Duration(i) * time.Millisecond)
		l.Decide(now, Reply{To: victim})
		if i%2 == 0 {
			l.Decide(now, Reply{To: six})
		}
		if i%8 == 0 {
			l.Query(now, netip.MustParseAddr("203.0.113.7"), true)
		}
		l.Decide(now, Reply{To: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})}) // never over
	}
	now := testStart.Add(20 * time.Second)
	got := l.Top(now, 3)
	want := []struct {
		network string
		why     Reason
		count   uint64
	}{{"192.0.2.0/24", Slipped, 20_000}, {"2001:db8:1:100::/56", Slipped, 10_000}, {"203.0.113.0/24", TCPQuery, 2300}}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i, w := range want {
		if g := got[i]; g.Network.String() != w.network || g.Reason != w.why || !g.Held || g.Count < w.count*9/10 || g.Count > w.count*11/10 {
			t.Errorf("%d: %+v, want %+v", i, g, w)
		}
	}
	if got := l.Top(now, 1); len(got) != 1 {
		t.Errorf("the first: %v", got)
	}
	if got := l.Top(now.Add(time.Hour), 10); len(got) != 0 {
		t.Errorf("an hour later: %v", got)
	}
	// more networks than the list holds: the heavy ones stay
	for i := range 5_000 {
		at := now.Add(time.Duration(i) * time.Millisecond)
		l.Decide(at, Reply{To: victim})
		for j := range 3 {
			l.top.add(at, notIPv6|uint64((3*i+j)%1000)<<8, Slipped, 1)
		}
	}
	if got := l.Top(now.Add(5*time.Second), 1); len(got) != 1 || got[0].Network.Addr() != netip.MustParseAddr("192.0.2.0") {
		t.Errorf("after a crowd: %v", got)
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		yaml string
		want string // part of the complaint; "" for none
	}{
		{"defaults", "{}", ""},
		{"all", "{responses_per_second: 20, network_responses_per_second: 500, window: 5s, slip: 2, queries_per_second: 1000, tcp_queries_per_second: 100, connections: 64,\n" +
			" network_connections: 4, ipv4_prefix: 32, ipv6_prefix: 64, table_size: 65536, exempt: [192.0.2.0/24], log_only: true}", ""},
		{"off", "{responses_per_second: 0}", ""},
		{"rate", "{responses_per_second: -1}", "f:1: limits.responses_per_second: -1; use 0 to 100000"},
		{"rate of all below that of equals", "{network_responses_per_second: 100}",
			"limits.network_responses_per_second: 100, which is less than the 200 equal ones"},
		{"window", "{window: 500ms}", "limits.window: 500ms; use 1s to 5m"},
		{"slip", "{slip: 11}", "limits.slip: 11; use 0 to 10"},
		{"IPv4 prefix", "{ipv4_prefix: 33}", "limits.ipv4_prefix: 33; use 8 to 32"},
		{"IPv6 prefix", "{ipv6_prefix: 65}", "limits.ipv6_prefix: 65; use 16 to 64"},
		{"table", "{table_size: 65535}", "limits.table_size: 65535 is no power of two; use 65536"},
		{"small table", "{table_size: 512}", "limits.table_size: 512; use 1024 to"},
		{"connections", "{connections: 10}", "limits.network_connections: 128, which is more than the 10 connections of all"},
		{"in flight", "{in_flight: 32}", "in_flight"}, // a connection's queries are answered one after the other
		{"exempt everyone", "{exempt: [\"::/0\"]}", "limits.exempt[0]: ::/0 exempts everyone"},
		{"exempt bits", "{exempt: [192.0.2.1/24]}", "limits.exempt[0]: 192.0.2.1/24 has bits beyond its length; write 192.0.2.0/24"},
		{"exempt mapped", "{exempt: [\"::ffff:192.0.2.0/120\"]}", "limits.exempt[0]: ::ffff:192.0.2.0/120 is an IPv4 prefix in IPv6 form"},
		{"unknown key", "{rps: 5}", "rps"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc, err := config.Parse("f", []byte("limits: "+tc.yaml+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			var c Config
			at := doc.Decode("limits", &c)
			c.Validate(at)
			err = doc.Err()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	seen := map[string]bool{}
	for r := range reasons + 1 {
		seen[r.String()] = true
	}
	for v := range Verdict(3) {
		seen[v.String()] = true
	}
	if len(seen) != int(reasons)+1+3 || seen[""] {
		t.Errorf("%v", seen)
	}
}
