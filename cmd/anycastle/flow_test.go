package main

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"anycastle/lb"

	"github.com/google/go-cmp/cmp"
)

func TestFlowsAreLaidOut(t *testing.T) {
	at := netip.MustParseAddrPort
	list := lb.FlowList{
		Flows: []lb.FlowStatus{
			{Client: at("192.0.2.7:4242"), VIP: at("203.0.113.25:25"), Name: "smtp", Protocol: "tcp", Farm: "mail", Real: "mx1", Source: lb.FromAgent,
				Slot: lb.FlowSlot{Number: 513, Primary: "mx2", Secondary: "mx1"}, Elsewhere: true},
			{Client: at("[2001:db8::7]:4242"), VIP: at("[2001:db8:0:25::25]:53"), Name: "dns", Protocol: "udp", Farm: "mail", Real: "mx2", Source: lb.FromTracked,
				Slot: lb.FlowSlot{Number: 65535, Primary: "mx2"}},
		},
		Total: 5, More: 3, Behind: "the first probes have not finished",
		Unknown: []lb.UnknownFlows{{Farm: "web", Why: "it has no agent"}, {Farm: "mail", Real: "mx3", Why: "agent 198.51.100.11:6087: connection refused"}},
	}
	want := `CLIENT              VIP                     NAME  PROTOCOL  REAL      KNOWN BY  SLOT   PRIMARY  SECONDARY  ELSEWHERE
192.0.2.7:4242      203.0.113.25:25         smtp  tcp       mail/mx1  agent     513    mx2      mx1        yes
[2001:db8::7]:4242  [2001:db8:0:25::25]:53  dns   udp       mail/mx2  tracked   65535  mx2      -          no
and 3 more; --limit lists more of them, --vip, --real and --client fewer
note: the first probes have not finished
not known: flows of farm web: it has no agent
not known: flows of mail/mx3: agent 198.51.100.11:6087: connection refused
`
	for _, tc := range []struct {
		name string
		list lb.FlowList
		want string
	}{
		{"some", list, want},
		{"none", lb.FlowList{Why: "there is no agent to ask"}, "no flow is known: there is no agent to ask\n"},
	} {
		var out bytes.Buffer
		if err := writeFlows(&out, tc.list); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// TestFlowsAreAskedFor sees that flags reach the balancer, and that what it refuses is said.
func TestFlowsAreAskedFor(t *testing.T) {
	var asked string
	dir := serveRole(t, "lb", "GET /v1/flow", func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RawQuery
		if r.URL.Query().Get("vip") == "smpt" {
			http.Error(w, `no VIP is called "smpt"`, http.StatusUnprocessableEntity)
			return
		}
		io.WriteString(w, `{"flows":[],"total":0,"more":0,"why":"no agent could be asked","unknown":[]}`)
	})
	code, out, errs := outcome(t, "show", "flow", "--run-dir", dir, "--vip", "smtp", "--real", "mail/mx1", "--client", "192.0.2.7", "--limit", "3")
	if code != 0 || out != "no flow is known: no agent could be asked\n" || asked != "client=192.0.2.7%2F32&limit=3&real=mail%2Fmx1&vip=smtp" {
		t.Errorf("exit %d, %q, %q, asked %q", code, out, errs, asked)
	}
	code, out, _ = outcome(t, "show", "flow", "--run-dir", dir, "-o", "json")
	if code != 0 || !strings.Contains(out, `"total": 0`) || asked != "limit=1000" {
		t.Errorf("exit %d, %q, asked %q", code, out, asked)
	}
	if code, _, errs = outcome(t, "show", "flow", "--run-dir", dir, "--vip", "smpt"); code != exitFailed || errs != "no VIP is called \"smpt\"\n" {
		t.Errorf("exit %d, %q", code, errs)
	}
}
