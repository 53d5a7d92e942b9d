package lb

import (
	"net/netip"
	"testing"
	"time"

	"anycastle/lb/agent"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	smtpPort  = agent.Port{Address: netip.MustParseAddr("203.0.113.25"), Protocol: agent.TCP, Port: 25, Listening: true, Backlog: 128}
	agentTime = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
)

// portWith gives the port with a change.
func portWith(change func(p *agent.Port)) agent.Port {
	p := smtpPort
	change(&p)
	return p
}

// said is what a report holds, so long after the first.
type said struct {
	at    time.Duration
	ports []agent.Port
	since time.Time
}

func at(ms int, ports ...agent.Port) said {
	return said{at: time.Duration(ms) * time.Millisecond, ports: ports}
}

func TestDetector(t *testing.T) {
	closed := func(refused uint64) agent.Port {
		return portWith(func(p *agent.Port) { p.Listening, p.Refused = false, refused })
	}
	dropped := func(n uint64) agent.Port { return portWith(func(p *agent.Port) { p.Overflows = n }) }
	asked := func(syns, answers uint64) agent.Port {
		return portWith(func(p *agent.Port) { p.SYNs, p.SYNACKs = syns, answers })
	}
	full := func(syns, answers uint64) agent.Port {
		return portWith(func(p *agent.Port) { p.SYNs, p.SYNACKs, p.Queue = syns, answers, 129 })
	}
	udp := func(n uint64) agent.Port {
		return portWith(func(p *agent.Port) { p.Protocol, p.Overflows, p.Refused = agent.UDP, n, n })
	}
	reset := func(answers, n uint64) agent.Port {
		return portWith(func(p *agent.Port) { p.SYNs, p.SYNACKs, p.Resets = answers, answers, n })
	}
	imap := portWith(func(p *agent.Port) { p.Port, p.Listening, p.Refused = 143, false, 9 })
	imapBefore := portWith(func(p *agent.Port) { p.Port, p.Listening = 143, false })

	refused := func(why string) []agentVerdict {
		return []agentVerdict{{smtpPort.Key(), verdictRefused, why, true}}
	}
	for _, tc := range []struct {
		name string
		said []said
		want []agentVerdict
	}{
		{name: "calm", said: []said{at(0, asked(5, 5)), at(50, asked(9, 9)), at(1000, asked(50, 50))}},
		{name: "refused", said: []said{at(0, smtpPort), at(50, closed(3))}, want: refused("agent: refused 3 connections to 203.0.113.25:25 in 50ms")},
		{name: "refused over some reports", said: []said{at(0, smtpPort), at(50, closed(1)), at(100, closed(2)), at(150, closed(3))},
			want: refused("agent: refused 3 connections to 203.0.113.25:25 in 150ms")},
		{name: "the shortest time", said: []said{at(0, smtpPort), at(500, closed(1)), at(550, closed(4))},
			want: refused("agent: refused 3 connections to 203.0.113.25:25 in 50ms")},
		{name: "fewer than enough", said: []said{at(0, smtpPort), at(50, closed(2)), at(1000, closed(2))}},
		{name: "too slowly", said: []said{at(0, smtpPort), at(600, closed(1)), at(1200, closed(2)), at(1800, closed(3))}},
		{name: "held against it once", said: []said{at(0, smtpPort), at(50, closed(3)), at(100, closed(3)), at(150, closed(5))},
			want: refused("agent: refused 3 connections to 203.0.113.25:25 in 50ms")},
		{name: "goes on", said: []said{at(0, smtpPort), at(50, closed(3)), at(100, closed(6))}, want: append(
			refused("agent: refused 3 connections to 203.0.113.25:25 in 50ms"), refused("agent: refused 3 connections to 203.0.113.25:25 in 50ms")...)},
		{name: "before the first report", said: []said{at(0, closed(99)), at(50, closed(99))}},
		{name: "a port that is new", said: []said{at(0), at(50, closed(9)), at(100, closed(9))}},
		{name: "a firewall refuses", said: []said{at(0, smtpPort), at(50, portWith(func(p *agent.Port) { p.Refused = 9 }))}},
		{name: "the listener's end is seen later", said: []said{at(0, smtpPort), at(20, portWith(func(p *agent.Port) { p.Refused = 9 })), at(40, closed(9))},
			want: refused("agent: refused 9 connections to 203.0.113.25:25 in 40ms")},
		{name: "another process counts", said: []said{at(0, smtpPort), {at: 50 * time.Millisecond, ports: []agent.Port{closed(9)}, since: agentTime}}},
		{name: "counts began anew", said: []said{at(0, closed(7)), at(50, closed(3)), at(100, closed(5))}},
		{name: "the clock was set back", said: []said{at(100, smtpPort), at(50, closed(9)), at(150, closed(9))}},
		{name: "a gap", said: []said{at(0, smtpPort), at(1001, closed(9)), at(1050, closed(9))}},
		{name: "one of two ports", said: []said{at(0, smtpPort, imapBefore), at(50, smtpPort, imap)}, want: []agentVerdict{
			{imap.Key(), verdictRefused, "agent: refused 9 connections to 203.0.113.25:143 in 50ms", true}}},

		{name: "overflow", said: []said{at(0, smtpPort), at(60, dropped(5))}, want: []agentVerdict{{smtpPort.Key(), verdictOverflow,
			"agent: accept queue overflow, 5 connections to 203.0.113.25:25 dropped in 60ms", true}}},
		{name: "overflow of one", said: []said{at(0, smtpPort), at(60, dropped(1)), at(900, dropped(2))}},
		{name: "datagrams dropped", said: []said{at(0, udp(0)), at(60, udp(5))}},

		{name: "silence with a full queue", said: []said{at(0, full(5, 5)), at(50, full(8, 5))}, want: []agentVerdict{{smtpPort.Key(), verdictUnanswered,
			"agent: 3 connections to 203.0.113.25:25 without answer in 50ms", true}}},
		{name: "silence that is short", said: []said{at(0, asked(5, 5)), at(50, asked(8, 5)), at(400, asked(12, 5))}},
		{name: "silence that lasts", said: []said{at(0, asked(5, 5)), at(300, asked(6, 5)), at(500, asked(8, 5))}, want: []agentVerdict{{smtpPort.Key(),
			verdictUnanswered, "agent: 3 connections to 203.0.113.25:25 without answer in 500ms", false}}},
		{name: "one is answered", said: []said{at(0, asked(5, 5)), at(300, asked(6, 5)), at(500, asked(90, 6))}},
		{name: "resets", said: []said{at(0, reset(0, 0)), at(50, reset(4, 3))}, want: []agentVerdict{{smtpPort.Key(), verdictReset,
			"agent: reset 3 connections to 203.0.113.25:25 in 50ms", false}}},
		{name: "few of many are reset", said: []said{at(0, reset(0, 0)), at(50, reset(10, 3)), at(100, reset(20, 7))}},
		{name: "what is refused is answered", said: []said{at(0, smtpPort), at(500, portWith(func(p *agent.Port) { p.SYNs, p.Refused = 9, 7 }))}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d detector
			var got []agentVerdict
			for _, s := range tc.said {
				got = append(got, d.add(agent.Report{At: agentTime.Add(s.at), Since: s.since, VIPs: s.ports})...)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateComparable(agent.Key{})); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDetectorForgets holds that what is older than the window takes no memory.
func TestDetectorForgets(t *testing.T) {
	var d detector
	for i := range 1000 {
		d.add(agent.Report{At: agentTime.Add(time.Duration(i) * 20 * time.Millisecond), VIPs: []agent.Port{smtpPort}})
	}
	if n := len(d.history); n > 52 {
		t.Errorf("%d reports are kept of a second with 50", n)
	}
}
