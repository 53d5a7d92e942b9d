package repotest

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBenchmarksBecomeRows holds `make bench` and `make bench-lb` to the rows that readers of their reports rely on.
func TestBenchmarksBecomeRows(t *testing.T) {
	const output = `goos: linux
pkg: anycastle/bpf
BenchmarkPacket/ipip/ack/flows=1-2         	       7	        10.00 harness_ns	        42.42 net_ns_per_packet
BenchmarkPacket/ipip/ack/flows=100         	       7	        10.00 harness_ns	        51.00 net_ns_per_packet	         1.202 x/ipip/ack/flows=1
BenchmarkForward-2 	       1	    123456 ns/op	         0 broken	  250000 packets_per_s
BenchmarkFailover/silent-loss/serve_stale=on/setting=a-2/resolver=knot-2 	       1	      1234 first_good_ms
BenchmarkBroken-2 	--- FAIL: BenchmarkBroken-2
PASS
ok  	anycastle/bpf	88.950s
`
	for _, tc := range []struct {
		name string
		args []string
		want []map[string]any
	}{
		{"whole names", nil, []map[string]any{
			{"case": "BenchmarkPacket/ipip/ack/flows=1", "iterations": 7.0, "harness_ns": 10.0, "net_ns_per_packet": 42.42},
			{"case": "BenchmarkPacket/ipip/ack/flows=100", "iterations": 7.0, "harness_ns": 10.0, "net_ns_per_packet": 51.0, "peer": "ipip/ack/flows=1", "ratio": 1.202},
			{"case": "BenchmarkForward", "iterations": 1.0, "ns_per_op": 123456.0, "broken": 0.0, "packets_per_s": 250000.0},
			{"case": "BenchmarkFailover/silent-loss", "iterations": 1.0, "resolver": "knot", "serve_stale": "on", "setting": "a-2", "first_good_ms": 1234.0},
		}},
		{"short names", []string{"-v", "short=1"}, []map[string]any{
			{"case": "ipip/ack/flows=1", "iterations": 7.0, "harness_ns": 10.0, "net_ns_per_packet": 42.42},
			{"case": "ipip/ack/flows=100", "iterations": 7.0, "harness_ns": 10.0, "net_ns_per_packet": 51.0, "peer": "ipip/ack/flows=1", "ratio": 1.202},
			{"case": "BenchmarkForward", "iterations": 1.0, "ns_per_op": 123456.0, "broken": 0.0, "packets_per_s": 250000.0},
			{"case": "silent-loss", "iterations": 1.0, "resolver": "knot", "serve_stale": "on", "setting": "a-2", "first_good_ms": 1234.0},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.Command("awk", append(tc.args, "-f", "../../.ci/bench.awk")...)
			cmd.Stdin = strings.NewReader(output)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("awk: %v", err)
			}
			var got []map[string]any
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%v in\n%s", err, out)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}
