package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"anycastle/lb"

	"github.com/google/go-cmp/cmp"
)

// wholeDiff has something of everything.
func wholeDiff() lb.Diff {
	mx3 := netip.MustParseAddr("198.51.100.11")
	smtp := netip.MustParseAddr("203.0.113.25")
	flow := lb.FlowStatus{Client: netip.MustParseAddrPort("192.0.2.7:4242"), VIP: netip.AddrPortFrom(smtp, 25), Name: "smtp", Protocol: "tcp",
		Farm: "mail", Real: "mx3", Source: lb.FromAgent}
	return lb.Diff{
		Refused: "lb.uplinks has changed", Behind: "the last change did not succeed",
		Farms: []lb.FarmDiff{{Name: "mail", Changes: []string{"transition time 1h0m0s to 2h0m0s"}, Method: lb.SecondChance, Slots: 65536, Moved: 21791,
			MovedShare: 0.3325, MovedNow: 21791, Transition: 21791, TransitionShare: 0.3325,
			Reals: []lb.RealDiff{{Name: "mx1", Slots: 21846, After: 32000}, {Name: "mx3", Address: mx3, Changes: []string{"removed, weight 1"}, Slots: 21791}}}},
		VIPs: []lb.VIPDiff{{Name: "smtp", Address: smtp, Protocol: "tcp", Port: lb.OnePort(25), Changes: []string{"hash flow to source/24"},
			Breaks: 0.667, Withheld: "vip smtp has 1 of 2 reals that it needs"}},
		Flows: &lb.FlowMotion{
			FlowCounts: lb.FlowCounts{Known: 50, Stay: 20, Later: 10, Break: 12, Anyway: 5, Astray: 3},
			Farms:      []lb.FarmFlows{{Farm: "mail", FlowCounts: lb.FlowCounts{Known: 50, Stay: 20, Later: 10, Break: 12}}},
			List: []lb.FlowMove{{FlowStatus: flow, To: "mail/mx1", Now: true, Why: "its VIP has hash source/24, before flow: it has another slot"},
				{FlowStatus: flow, Why: "kept by second-chance until then"}},
			More: 20, Unknown: []lb.UnknownFlows{{Farm: "web", Why: "it has no agent"}},
		},
	}
}

func TestDiffIsLaidOut(t *testing.T) {
	want := `FARM  SLOTS MOVED    AT ONCE  IN TRANSITION  COVERED BY     AT REST IN  FLOWS  STAY  LATER  BREAK
mail  21791 (33.2%)  21791    21791 (33.2%)  second-chance  -           50     20    10     12

WHAT                          CHANGE                                                                                                                                            SLOTS  SLOTS THEN
farm mail                     transition time 1h0m0s to 2h0m0s                                                                                                                  -      -
real mail/mx3 198.51.100.11   removed, weight 1                                                                                                                                 21791  0
vip smtp 203.0.113.25 tcp/25  hash flow to source/24; 66.7% of its flows WOULD BREAK at once; its address WOULD NOT BE ANNOUNCED: vip smtp has 1 of 2 reals that it needs  -      -

live flows: 50 known, 20 stay, 10 stay until a transition ends, 12 WOULD BREAK at once, 5 move without it as well, 3 are cut off from their real already
CLIENT          VIP              NAME  REAL      TO        IN       WHY
192.0.2.7:4242  203.0.113.25:25  smtp  mail/mx3  mail/mx1  at once  its VIP has hash source/24, before flow: it has another slot
192.0.2.7:4242  203.0.113.25:25  smtp  mail/mx3  -         -        kept by second-chance until then
and 20 more that would move; --flows lists more of them
not known: flows of farm web: it has no agent
note: the last change did not succeed
a reload would refuse it: lb.uplinks has changed; the above is what a restart with it would do
`
	var out bytes.Buffer
	if err := writeDiff(&out, wholeDiff()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(squeeze(want), squeeze(out.String())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// squeeze makes one of several spaces: the width of columns is tabwriter's affair.
func squeeze(text string) string {
	return regexp.MustCompile(" +").ReplaceAllString(text, " ")
}

// TestDiffIsAskedFor sees that the file goes to the balancer as it is, and what the exit status is.
func TestDiffIsAskedFor(t *testing.T) {
	const node = `lb:
  uplinks: [eth1] # as it is
  hash_key: "6f1d0c5a93b84e27a1c0de5b7f9264e8"
  farms:
    - {name: smtp, probes: [{type: tcp}], reals: [{name: mx1, address: 198.51.100.7}]}
  vips:
    - {name: smtp, address: 203.0.113.25, port: 25, farm: smtp}
`
	file := filepath.Join(t.TempDir(), "new.yml")
	if err := os.WriteFile(file, []byte(node), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		diff lb.Diff
		want int
	}{
		{"nothing", lb.Diff{Flows: &lb.FlowMotion{}}, 0},
		{"a real goes", lb.Diff{Farms: []lb.FarmDiff{{Name: "mail", Moved: 1}}, Flows: &lb.FlowMotion{FlowCounts: lb.FlowCounts{Later: 1}}}, 0},
		{"a flow breaks", lb.Diff{Flows: &lb.FlowMotion{FlowCounts: lb.FlowCounts{Break: 1}}}, exitFailed},
		{"an address is withdrawn", lb.Diff{VIPs: []lb.VIPDiff{{Port: lb.OnePort(25), Withheld: "too few reals"}}}, exitFailed},
		{"it is refused", lb.Diff{Refused: "lb.hash_key has changed"}, exitFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := serveRole(t, "lb", "POST /v1/diff", func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil || string(body) != node || r.URL.Query().Get("name") != file || r.URL.Query().Get("flows") != "7" {
					t.Errorf("asked %v with %q, %v", r.URL, body, err)
				}
				json.NewEncoder(w).Encode(tc.diff)
			})
			code, out, errs := outcome(t, "check", "--diff", "--run-dir", dir, "--flows", "7", "-o", "json", file)
			var got lb.Diff
			if err := json.Unmarshal([]byte(out), &got); err != nil || code != tc.want || errs != "" {
				t.Errorf("exit %d, %q, %q: %v", code, out, errs, err)
			}
			if diff := cmp.Diff(tc.diff, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(time.Time.Equal)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
