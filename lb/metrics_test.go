package lb

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestMetricsOfARealThatMoved: two reals of one name are there until the flows at the old address have ended.
func TestMetricsOfARealThatMoved(t *testing.T) {
	l, err := New(*mustParse(t, valid), Options{})
	check(t, err)
	l.view.reals = []RealStatus{
		{Farm: "smtp", Name: "mx1", Address: addr("198.51.100.9"), State: StateActive, Weight: 3, Slots: 60000},
		{Farm: "smtp", Name: "mx1", Address: addr("198.51.100.11"), State: StateDraining},
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(collector{l})
	const want = `
# HELP anycastle_lb_real_active 1 while the real takes new flows.
# TYPE anycastle_lb_real_active gauge
anycastle_lb_real_active{farm="smtp",real="mx1"} 1
# HELP anycastle_lb_real_probes_failing Probes of the real that fail.
# TYPE anycastle_lb_real_probes_failing gauge
anycastle_lb_real_probes_failing{farm="smtp",real="mx1"} 0
# HELP anycastle_lb_real_slots Slots of the farm's table whose new flows go to the real.
# TYPE anycastle_lb_real_slots gauge
anycastle_lb_real_slots{farm="smtp",real="mx1"} 60000
# HELP anycastle_lb_real_state 1 for the state that the real is in.
# TYPE anycastle_lb_real_state gauge
anycastle_lb_real_state{farm="smtp",real="mx1",state="active"} 1
anycastle_lb_real_state{farm="smtp",real="mx1",state="draining"} 1
# HELP anycastle_lb_real_weight Weight that the config gives the real.
# TYPE anycastle_lb_real_weight gauge
anycastle_lb_real_weight{farm="smtp",real="mx1"} 3
`
	check(t, testutil.GatherAndCompare(reg, strings.NewReader(want), "anycastle_lb_real_active", "anycastle_lb_real_probes_failing",
		"anycastle_lb_real_slots", "anycastle_lb_real_state", "anycastle_lb_real_weight"))
	problems, err := testutil.GatherAndLint(reg)
	check(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
