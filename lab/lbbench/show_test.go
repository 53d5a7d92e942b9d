package lbbench

import (
	"bufio"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"anycastle/internal/daemon"

	"github.com/google/go-cmp/cmp"
)

// showKeys are the keys of a row of each noun: scripts live on them.
var showKeys = map[string]string{
	"vip":     "active_reals address announced bytes farm min_reals name packets port protocol reason",
	"farm":    "active_reals name reals slots_in_transition vips",
	"real":    "address farm flows forward name next_hop primary_weight secondary_weight share since slots state weight why",
	"probe":   "at farm last real state target took_ms type",
	"drops":   "packets reason",
	"replies": "kind packets",
	"uplink":  "mode name",
	"peer-lb": "address name self since state",
	"drain":   "deadline farm flows_left ordered real safe since state waits_for why",
}

// TestShowAndMetrics looks at a balancer with traffic through it in every way that there is.
func TestShowAndMetrics(t *testing.T) {
	t.Parallel()
	c := newControl(t, 2, 2, farmFast)
	c.listen("mx1", "mx2")
	c.up("lb1") // lb2 stays away
	c.expectStates([]string{"lb1"}, "mx1 active", "mx2 active")
	c.route("lb1")
	eventually(t, "agents report", func() bool { return c.real("lb1", "mx1").Flows != nil && c.real("lb1", "mx2").Flows != nil })
	before := c.metrics("lb1")
	c.open(20, "mx1", "mx2")
	after := c.metrics("lb1")
	if diff := cmp.Diff(seriesOf(before), seriesOf(after)); diff != "" {
		t.Errorf("traffic makes series (-before +after):\n%s", diff)
	}
	for _, name := range []string{"packets", "bytes"} {
		if s := "anycastle_lb_vip_" + name + `_total{vip="smtp"}`; after[s] < before[s]+40 {
			t.Errorf("%s is %v after 20 connections, and was %v", s, after[s], before[s])
		}
	}
	if after[`anycastle_lb_real_slots{farm="smtp",real="mx1"}`]+after[`anycastle_lb_real_slots{farm="smtp",real="mx2"}`] != 65536 {
		t.Errorf("the slots of both reals in the metrics: %v", after)
	}
	c.expectLabels(after)
	eventually(t, "the agents count the connections", func() bool { return *c.real("lb1", "mx1").Flows+*c.real("lb1", "mx2").Flows == 20 })

	c.mustRun("lb1", "drain", "smtp/mx2", "--why", "a new disk", "--deadline", "5m")
	c.expectDrain([]string{"lb1"}, "begun", func(d drainRow) bool { return d.Real == "mx2" })
	for noun, want := range showKeys {
		rows := decode[[]map[string]any](t, c.mustRun("lb1", "show", noun, "-o", "json"))
		if len(rows) == 0 {
			t.Errorf("show %s -o json has no row", noun)
			continue
		}
		keys := slices.Sorted(maps.Keys(rows[0]))
		if diff := cmp.Diff(strings.Fields(want), keys); diff != "" {
			t.Errorf("keys of show %s (-want +got):\n%s", noun, diff)
		}
		if lines := strings.Count(c.mustRun("lb1", "show", noun), "\n"); lines != len(rows)+1 {
			t.Errorf("show %s has %d lines for %d rows and a head", noun, lines, len(rows))
		}
	}
	for noun, want := range map[string]string{
		"vip":   `smtp +203\.0\.113\.10 +tcp/25 +smtp +1 of at least 1 +no +this process announces nothing +[1-9][0-9]* +[1-9][0-9]*`,
		"farm":  `smtp +2 +1 +[1-9][0-9]* +smtp`,
		"real":  `smtp +mx2 +198\.51\.100\.[0-9]+ +1 +draining .* order drain by [^:]*: a new disk +[1-9][0-9]* +0\.0% `,
		"probe": `smtp +mx1 +tcp 203\.0\.113\.10:25 +passing +ok +[0-9.]+ ms +[0-9]+s`,
		"drain": `smtp +mx2 +draining .* no +lb1 +order drain by [^:]*: a new disk`,
		"drops": `(?m)^[a-z]+(_[a-z0-9]+)* +[0-9]+$`,
	} {
		if out := c.mustRun("lb1", "show", noun); !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("show %s says\n%swant a line like %s", noun, out, want)
		}
	}

	// what leaves the config leaves the metrics, when its flows have had their time
	node := filepath.Join(c.dir, "lb1", "node.yml")
	text := regexp.MustCompile(`(?m)^.*name: mx2.*\n`).ReplaceAllString(c.nodes["lb1"], "")
	check(t, os.WriteFile(node, []byte(text), 0o600))
	c.mustRun("lb1", "activate", "smtp/mx2") // or the drain would last
	c.mustRun("lb1", "reload", "lb")
	eventually(t, "mx2 is gone from the metrics", func() bool {
		series := c.metrics("lb1")
		return len(series) > 0 && !slices.ContainsFunc(seriesOf(series), func(s string) bool { return strings.Contains(s, "mx2") })
	})
}

// seriesOf gives the names and labels of our metrics.
func seriesOf(metrics map[string]float64) []string {
	ours := slices.DeleteFunc(slices.Sorted(maps.Keys(metrics)), func(s string) bool { return !strings.HasPrefix(s, "anycastle_") })
	return ours
}

// expectLabels sees to it that labels hold nothing but what is in the config, or in the code.
func (c *control) expectLabels(metrics map[string]float64) {
	c.t.Helper()
	var reasons []string
	for _, d := range show[struct{ Reason string }](c, "lb1", "drops") {
		reasons = append(reasons, d.Reason)
	}
	may := map[string][]string{"mesh": {"lb"}, "vip": {"smtp"}, "farm": {"smtp"}, "real": {"mx1", "mx2"}, "reason": reasons,
		"state": {"alive", "lost", "left", "active", "joining", "draining", "suspended", "failed"}, "kind": {"echo", "too_big"}}
	label := regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
	seen := 0
	for _, s := range seriesOf(metrics) {
		allowed := may
		if strings.HasPrefix(s, "anycastle_mesh_messages_rejected_total") {
			allowed = map[string][]string{"mesh": {"lb"}, "reason": {"key", "group", "format", "clock", "full", "members", "name", "streams"}}
		}
		for _, m := range label.FindAllStringSubmatch(s, -1) {
			if seen++; !slices.Contains(allowed[m[1]], m[2]) {
				c.t.Errorf("%s: label %s may be one of %q", s, m[1], allowed[m[1]])
			}
		}
	}
	if seen < 10 || len(reasons) < 10 {
		c.t.Errorf("%d labels and %d reasons for drops", seen, len(reasons))
	}
}

// metrics gives what a balancer counts, by name and labels as they are written; nothing while it does not answer.
func (c *control) metrics(lb string) map[string]float64 {
	c.t.Helper()
	body, err := daemon.Stream(c.t.Context(), filepath.Join(c.dir, lb), "lb", http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil
	}
	defer body.Close()
	series := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(body, 1<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "} ")
		if ok {
			name += "}"
		} else {
			name, value, _ = strings.Cut(lines.Text(), " ")
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(name, "#") {
			series[name] = v
		}
	}
	check(c.t, lines.Err())
	return series
}
