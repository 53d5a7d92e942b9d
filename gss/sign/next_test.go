package sign

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// rolling is a zone whose parent does what it is asked for, an hour later.
type rolling struct {
	t        testing.TB
	now      time.Time
	policy   Policy
	state    State
	decision Decision
	keys     int
	parent   []string
	behind   bool
	log      []string
}

func (r *rolling) step(o *Observation) {
	r.t.Helper()
	in := Inputs{Policy: r.policy, Observed: o}
	if r.behind {
		in.Behind = r.now
	}
	s, d := Next(r.state, in, r.now)
	if d.Need != 0 {
		r.keys++
		in.Observed, in.Spare = nil, &Spare{ID: keyID("x.", d.Need, uint16(r.keys)), Algorithm: d.Need}
		s, d = Next(s, in, r.now)
	}
	r.state, r.decision = s, d
	short := func(ids []string) string {
		return strings.NewReplacer("Kx.+013+0000", "e", "Kx.+015+0000", "d").Replace(strings.Join(ids, " "))
	}
	request := short(d.Request.Keys)
	if d.Request.Delete {
		request = "delete"
	}
	var states []string
	for _, k := range d.Keys {
		states = append(states, short([]string{k.ID})+" "+string(k.State))
	}
	line := fmt.Sprintf("DNSKEY [%s] data [%s] CDS [%s] %s", short(d.DNSKEY), short(d.Data), request, strings.Join(states, ", "))
	if n := len(r.log); n == 0 || !strings.HasSuffix(r.log[n-1], line) {
		r.log = append(r.log, fmt.Sprintf("%gh: %s", r.now.Sub(epoch).Hours(), line))
	}
}

// run goes on for a time, in which the parent is asked every hour.
func (r *rolling) run(d time.Duration) {
	r.t.Helper()
	end := r.now.Add(d)
	for !r.now.After(end) {
		r.step(&Observation{At: r.now, Sets: [][]string{r.parent}, Complete: true})
		if q := r.decision.Request; q.Delete || len(q.Keys) > 0 {
			r.parent = q.Keys
		}
		r.now = r.now.Add(time.Hour)
	}
}

func testPolicy() Policy {
	return Policy{
		Algorithm: dns.ECDSAP256SHA256, KeyTTL: 2 * time.Hour, MaxTTL: 4 * time.Hour, Propagation: time.Hour,
		ParentTTL: 24 * time.Hour, ParentPropagation: 6 * time.Hour, Registration: time.Hour,
	}
}

func TestLifeOfKeys(t *testing.T) {
	t.Parallel()
	r := &rolling{t: t, now: epoch, policy: testPolicy()}
	r.policy.Lifetime = 100 * time.Hour
	r.run(200 * time.Hour)
	want := []string{
		"0h: DNSKEY [e1] data [e1] CDS [] e1 published",
		// 4h of TTL, an hour until all servers have it, and the second that caches keep more
		"6h: DNSKEY [e1] data [e1] CDS [e1] e1 ready",
		"38h: DNSKEY [e1] data [e1] CDS [e1] e1 active",
		"138h: DNSKEY [e1 e2] data [e1] CDS [e1] e1 retired, e2 published",
		"142h: DNSKEY [e1 e2] data [e1] CDS [e2] e1 retired, e2 ready",
		"174h: DNSKEY [e1 e2] data [e2] CDS [e2] e1 retired, e2 active",
		"180h: DNSKEY [e2] data [e2] CDS [e2] e1 gone, e2 active",
		"184h: DNSKEY [e2] data [e2] CDS [e2] e2 active",
	}
	if diff := cmp.Diff(want, r.log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestChangeOfAlgorithm(t *testing.T) {
	t.Parallel()
	r := &rolling{t: t, now: epoch, policy: testPolicy(), keys: 1, parent: []string{"Kx.+013+00001"}}
	r.state = Adopt("Kx.+013+00001", dns.ECDSAP256SHA256, epoch)
	r.run(3 * time.Hour)
	r.policy.Algorithm = dns.ED25519
	r.run(100 * time.Hour)
	want := []string{
		"0h: DNSKEY [e1] data [e1] CDS [e1] e1 active",
		"4h: DNSKEY [e1] data [e1 d2] CDS [e1] e1 retired, d2 signing",
		"10h: DNSKEY [e1 d2] data [e1 d2] CDS [e1] e1 retired, d2 published",
		"14h: DNSKEY [e1 d2] data [e1 d2] CDS [d2] e1 retired, d2 ready",
		"46h: DNSKEY [d2] data [e1 d2] CDS [d2] e1 withdrawn, d2 active",
		"50h: DNSKEY [d2] data [d2] CDS [d2] e1 gone, d2 active",
		"56h: DNSKEY [d2] data [d2] CDS [d2] d2 active",
	}
	if diff := cmp.Diff(want, r.log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGoingInsecureAndSecureAgain(t *testing.T) {
	t.Parallel()
	r := &rolling{t: t, now: epoch, policy: testPolicy(), keys: 1, parent: []string{"Kx.+013+00001"}}
	r.state = Adopt("Kx.+013+00001", dns.ECDSAP256SHA256, epoch)
	r.policy.Insecure = true
	r.run(50 * time.Hour)
	r.policy.Insecure = false
	r.run(50 * time.Hour)
	want := []string{
		"0h: DNSKEY [e1] data [e1] CDS [delete] e1 retired",
		"32h: DNSKEY [] data [] CDS [] e1 gone",
		"38h: DNSKEY [] data [] CDS [] ",
		"51h: DNSKEY [e2] data [e2] CDS [] e2 published",
		"57h: DNSKEY [e2] data [e2] CDS [e2] e2 ready",
		"89h: DNSKEY [e2] data [e2] CDS [e2] e2 active",
	}
	if diff := cmp.Diff(want, r.log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNoKeyIsRemovedWhileTheParentPointsAtIt(t *testing.T) {
	t.Parallel()
	old := "Kx.+013+00001"
	for name, set := range map[string][][]string{
		"parent does nothing":    {{old}},
		"one server is late":     {{old}, {"Kx.+013+00002"}},
		"parent adds, and keeps": {{old, "Kx.+013+00002"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &rolling{t: t, now: epoch, policy: testPolicy(), keys: 1}
			r.state = Adopt(old, dns.ECDSAP256SHA256, epoch).AskRoll()
			for range 2000 {
				sets := set
				if len(r.decision.Request.Keys) == 0 || r.decision.Request.Keys[0] == old {
					sets = [][]string{{old}}
				}
				r.step(&Observation{At: r.now, Sets: sets, Complete: true})
				r.now = r.now.Add(time.Hour)
			}
			if len(r.decision.DNSKEY) != 2 {
				t.Errorf("after %v: %+v", r.now.Sub(epoch), r.decision)
			}
			for _, k := range r.decision.Keys {
				if k.State != Active && (k.Waits == "" || !k.Until.IsZero()) {
					t.Errorf("%s is %s and does not say that it waits for the parent: %q until %v", k.ID, k.State, k.Waits, k.Until)
				}
			}
			// at last
			r.parent = []string{"Kx.+013+00002"}
			r.run(200 * time.Hour)
			if len(r.decision.Keys) != 1 {
				t.Errorf("after %v: %+v", r.now.Sub(epoch), r.decision)
			}
		})
	}
}

func TestPartialObservationProvesNothing(t *testing.T) {
	t.Parallel()
	r := &rolling{t: t, now: epoch, policy: testPolicy(), keys: 1}
	r.state = Adopt("Kx.+013+00001", dns.ECDSAP256SHA256, epoch).AskRoll()
	for range 2000 { // one server of two answers
		r.step(&Observation{At: r.now, Sets: [][]string{{"Kx.+013+00002"}}})
		r.now = r.now.Add(time.Hour)
	}
	if len(r.decision.DNSKEY) != 2 || len(r.decision.Data) != 1 || r.decision.Data[0] != "Kx.+013+00001" {
		t.Errorf("got %+v", r.decision)
	}
}

// TestRequestThatIsTakenBackMayComeTrue: the parent read CDS records, and takes its time.
func TestRequestThatIsTakenBackMayComeTrue(t *testing.T) {
	t.Parallel()
	r := &rolling{t: t, now: epoch, policy: testPolicy()}
	r.policy.Registration = 100 * time.Hour
	wait := func(d time.Duration) {
		for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(time.Hour) {
			r.step(&Observation{At: r.now, Sets: [][]string{{}}, Complete: true})
		}
	}
	wait(10 * time.Hour)
	if len(r.decision.Request.Keys) != 1 {
		t.Fatalf("got %+v", r.decision)
	}
	r.policy.Insecure = true
	wait(100 * time.Hour)
	if len(r.decision.Data) != 1 || !r.decision.Request.Delete {
		t.Errorf("after %v the zone is unsigned: %+v", r.now.Sub(epoch), r.decision)
	}
	wait(50 * time.Hour)
	if len(r.decision.Data) != 0 {
		t.Errorf("after %v the zone is still signed: %+v", r.now.Sub(epoch), r.decision)
	}
}

func TestNothingIsRemovedThatAServerNeedsWhichIsBehind(t *testing.T) {
	t.Parallel()
	r := &rolling{t: t, now: epoch, policy: testPolicy(), keys: 1, parent: []string{"Kx.+013+00001"}}
	r.state = Adopt("Kx.+013+00001", dns.ECDSAP256SHA256, epoch).AskRoll()
	r.run(38 * time.Hour) // the second key signs
	r.behind = true
	r.run(500 * time.Hour)
	if len(r.decision.DNSKEY) != 2 || r.decision.Data[0] != "Kx.+013+00002" {
		t.Fatalf("got %+v", r.decision)
	}
	r.behind = false
	r.run(4 * time.Hour)
	if len(r.decision.DNSKEY) != 2 {
		t.Errorf("the key left while caches could have what it signed: %+v", r.decision)
	}
	if r.run(4 * time.Hour); len(r.decision.DNSKEY) != 1 {
		t.Errorf("got %+v", r.decision)
	}
}

func TestForeignDSIsAnAlarm(t *testing.T) {
	t.Parallel()
	r := &rolling{t: t, now: epoch, policy: testPolicy(), keys: 1}
	r.state = Adopt("Kx.+013+00001", dns.ECDSAP256SHA256, epoch)
	r.step(&Observation{At: r.now, Sets: [][]string{{"DS 1 8 2 00"}}, Complete: true})
	if !strings.Contains(r.decision.Alarm, "DS 1 8 2 00") {
		t.Errorf("got %+v", r.decision)
	}
	r.now = r.now.Add(time.Hour)
	r.step(&Observation{At: r.now, Sets: [][]string{{"DS 1 8 2 00", "Kx.+013+00001"}}, Complete: true})
	if r.decision.Alarm != "" {
		t.Errorf("got alarm %q", r.decision.Alarm)
	}
}

func TestZoneIsMendedWhoseParentHasDSRecordsOfAnother(t *testing.T) {
	t.Parallel()
	r := &rolling{t: t, now: epoch, policy: testPolicy(), parent: []string{"DS 1 8 2 00"}}
	r.run(5 * time.Hour)
	if r.decision.Alarm == "" || len(r.decision.Data) != 1 {
		t.Errorf("got %+v", r.decision)
	}
	r.run(100 * time.Hour)
	if d := r.decision; d.Alarm != "" || len(d.Keys) != 1 || d.Keys[0].State != Active {
		t.Errorf("got %+v", d)
	}
}

func TestPolicyIsChecked(t *testing.T) {
	t.Parallel()
	if p := DefaultPolicy(); p.Check() != nil {
		t.Error(p.Check())
	}
	for name, change := range map[string]func(*Policy){
		"algorithm":         func(p *Policy) { p.Algorithm = dns.RSASHA256 },
		"TTL of keys":       func(p *Policy) { p.KeyTTL = 0 },
		"TTL":               func(p *Policy) { p.MaxTTL = time.Millisecond },
		"TTL at the parent": func(p *Policy) { p.ParentTTL = -1 },
		"propagation":       func(p *Policy) { p.Propagation = -1 },
		"lifetime":          func(p *Policy) { p.Lifetime = 48 * time.Hour },
	} {
		p := DefaultPolicy()
		if change(&p); p.Check() == nil {
			t.Errorf("%s: %+v is taken", name, p)
		}
	}
}
