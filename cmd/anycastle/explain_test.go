package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anycastle/internal/daemon"
	"anycastle/lb"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// serveRole serves a role's socket with one handler until the test ends, and gives its folder.
func serveRole(t *testing.T, role, pattern string, h http.HandlerFunc) string {
	t.Helper()
	dir := t.TempDir()
	p := daemon.Process{Role: role, RunDir: dir, Log: slog.New(slog.DiscardHandler), Handlers: map[string]http.HandlerFunc{pattern: h}}
	ctx, cancel := context.WithCancel(context.Background())
	done, started := make(chan error, 1), make(chan struct{})
	go func() {
		done <- daemon.Run(ctx, p, func(ctx context.Context) error {
			close(started) // the socket is listened on before the first task
			<-ctx.Done()
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-started:
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return dir
}

var (
	mx1 = &lb.ToReal{Name: "mx1", Farm: "smtp", Address: netip.MustParseAddr("198.51.100.9"), Forward: lb.ForwardGUE, State: lb.StateDraining, Why: "order drain by root"}
	mx2 = &lb.ToReal{Name: "mx2", Farm: "smtp", Address: netip.MustParseAddr("198.51.100.10"), Forward: lb.ForwardGUE, State: lb.StateActive, Why: "it came into service"}
)

// TestExplainText lays answers out.
func TestExplainText(t *testing.T) {
	smtp := lb.ToVIP{Name: "smtp", Address: netip.MustParseAddr("203.0.113.10"), Protocol: "tcp", Port: lb.OnePort(25), Farm: "smtp"}
	imap := lb.ToVIP{Name: "imap", Address: smtp.Address, Protocol: "tcp", Port: lb.Ports{Low: 100, High: 200}, Farm: "imap"}
	for _, tc := range []struct {
		name   string
		args   string
		answer lb.Answer
		want   string
	}{
		{name: "second chance", args: "198.51.100.7:4242 203.0.113.10:25",
			answer: lb.Answer{Fate: lb.Forwarded, Why: "the packet names both", VIP: &smtp, Real: mx2, Second: mx1,
				Slot: &lb.ToSlot{Number: 40312, InTransition: true, Method: lb.SecondChance, Primary: mx2, Secondary: mx1},
				Sent: &lb.SentFrame{Forward: lb.ForwardGUE, Source: netip.MustParseAddr("198.51.100.2"), Destination: mx2.Address, SecondHop: mx1.Address,
					Size: 80, MTU: 1600, Uplink: "eth2", NextHop: "00:00:5e:00:53:01", VLANs: []int{7, 12}}},
			want: `STEP       WHAT
packet     198.51.100.7:4242 to 203.0.113.10:25, tcp ACK, 40 bytes, in by eth1
vip        smtp (tcp 25), farm smtp
slot       40312, in transition by second-chance
primary    smtp/mx2 198.51.100.10, active: it came into service
secondary  smtp/mx1 198.51.100.9, draining: order drain by root
real       smtp/mx2, which passes it on to smtp/mx1 if the flow is not its own
outer      gue, 198.51.100.2 to 198.51.100.10, second hop 198.51.100.9, 80 bytes
next hop   00:00:5e:00:53:01 by eth2, vlan 7 in 12, mtu 1600
verdict    forwarded: the packet names both
`},
		{name: "tracked", args: "--size 100 [2001:db8::7]:4242 [2001:db8::10]:25",
			answer: lb.Answer{Fate: lb.Forwarded, Why: "the flow is stored with smtp/mx1", VIP: &smtp, Real: mx1, Behind: "a change failed",
				Slot: &lb.ToSlot{Number: 1, InTransition: true, Method: lb.Tracked, Followed: true, Stored: mx1, Primary: nil, Secondary: mx2},
				Sent: &lb.SentFrame{Forward: lb.ForwardL2, Size: 100, MTU: 1500, Uplink: "eth1", NextHop: "00:00:5e:00:53:01"}},
			want: `STEP       WHAT
packet     [2001:db8::7]:4242 to [2001:db8::10]:25, tcp ACK, 100 bytes, in by eth1
vip        smtp (tcp 25), farm smtp
slot       1, in transition by tracked; the flow is stored with smtp/mx1
primary    none
secondary  smtp/mx2 198.51.100.10, active: it came into service
real       smtp/mx1
outer      l2, 100 bytes
next hop   00:00:5e:00:53:01 by eth1, mtu 1500
verdict    forwarded: the flow is stored with smtp/mx1
note       a change failed
`},
		{name: "dropped", args: "--syn 198.51.100.7:4242 203.0.113.10:25",
			answer: lb.Answer{Fate: lb.Dropped, Reason: "no_real", Why: "nobody", Mend: "mend one", VIP: &lb.ToVIP{Protocol: "tcp", Port: lb.OnePort(25), Farm: "smtp"},
				Slot: &lb.ToSlot{Number: 1, Followed: true}},
			want: `STEP       WHAT
packet     198.51.100.7:4242 to 203.0.113.10:25, tcp SYN, 40 bytes, in by eth1
vip        one that is not in the config (tcp 25), farm smtp
slot       1, steady, but stored flows are followed; the flow is not stored
primary    none
secondary  none
verdict    dropped (no_real): nobody
mend       mend one
`},
		{name: "another port", args: "--protocol udp 198.51.100.7:4242 203.0.113.10:26", answer: lb.Answer{Fate: lb.Passed, Why: "no VIP", OnAddress: []lb.ToVIP{smtp, imap}},
			want: `STEP     WHAT
packet   198.51.100.7:4242 to 203.0.113.10:26, udp, 28 bytes, in by eth1
vip      none; on this address, which is out of service: smtp (tcp 25), imap (tcp 100-200)
verdict  passed: no VIP
`},
		{name: "ping", args: "--protocol icmp-echo 198.51.100.7 203.0.113.10", answer: lb.Answer{Fate: lb.Answered, Why: "a ping",
			OnAddress: []lb.ToVIP{{Name: "smtp", Protocol: "tcp", Port: lb.OnePort(25), InService: true}}},
			want: `STEP     WHAT
packet   198.51.100.7 to 203.0.113.10, icmp-echo, 28 bytes, in by eth1
vip      the address, in service, of smtp (tcp 25)
verdict  answered: a ping
`},
		{name: "another address", args: "--protocol icmp-echo 198.51.100.7 203.0.113.99", answer: lb.Answer{Fate: lb.Passed, Why: "no VIP's"},
			want: `STEP     WHAT
packet   198.51.100.7 to 203.0.113.99, icmp-echo, 28 bytes, in by eth1
vip      none has this address
verdict  passed: no VIP's
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := serveRole(t, "lb", "POST /v1/explain", func(w http.ResponseWriter, r *http.Request) {
				var q lb.Question
				if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
					t.Error(err)
				}
				var err error
				if tc.answer.Question, err = q.Complete(); err != nil {
					t.Error(err)
				}
				tc.answer.Question.Uplink = "eth1"
				if err := json.NewEncoder(w).Encode(tc.answer); err != nil {
					t.Error(err)
				}
			})
			args := append([]string{"explain", "--run-dir", dir}, strings.Fields(tc.args)...)
			code, out, errs := outcome(t, args...)
			if diff := cmp.Diff(tc.want, out); code != 0 || diff != "" {
				t.Errorf("exit %d, %s (-want +got):\n%s", code, errs, diff)
			}
			code, out, errs = outcome(t, append(args, "-o", "json")...)
			var got lb.Answer
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
				t.Fatalf("exit %d, %s: %v in\n%s", code, errs, err, out)
			}
			opts := []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})}
			if diff := cmp.Diff(tc.answer, got, opts...); diff != "" {
				t.Errorf("json (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExplainRefused(t *testing.T) {
	dir := serveRole(t, "lb", "POST /v1/explain", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `"eth9" is no uplink`, http.StatusUnprocessableEntity)
	})
	code, out, errs := outcome(t, "explain", "--run-dir", dir, "--uplink", "eth9", "198.51.100.7:4242", "203.0.113.10:25")
	if code != exitFailed || out != "" || errs != "\"eth9\" is no uplink\n" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

func TestRealTextHasItsAge(t *testing.T) {
	r := *mx2
	r.Since = time.Now().Add(-time.Hour)
	if got := realText(&r); !strings.HasPrefix(got, "smtp/mx2 198.51.100.10, active for 1h0m0s: ") {
		t.Error(got)
	}
}
