package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/lab/client"
	"anycastle/lab/score"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wellFormed reads a plot as XML.
func wellFormed(t *testing.T, svg string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("plot is no XML: %v", err)
		}
	}
}

func TestRowsAreWritten(t *testing.T) {
	run := example(t)
	dir := t.TempDir()
	if err := Write(run, dir); err != nil {
		t.Fatal(err)
	}
	var rows []score.Row
	if err := json.Unmarshal([]byte(read(t, dir, "lab.json")), &rows); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(run.Rows(), rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestMarkdown(t *testing.T) {
	dir := written(t)
	text := read(t, dir, "report.md")
	for _, want := range []string{
		"| fault | outage at the VIP | by name |",
		"| real killed | 334 ms | 109 ms | none | none | 20 | 0 | 0 | 0 | mx2.east | VIP ≤ 1 s, name ≤ 1 s, 0 lost | **pass** |",
		"| real killed: way back | none |",
		"- **FAIL**: site cut silently\n",
		"lab two-site, up in 21.3 s, memory of all nodes 1.27 GiB, names by unbound 1.17",
		"**FAIL: vip: promised 1000 ms, was 1044 ms**",
		"| SMTP at the VIP | 17 | +0.000 s | +0.320 s | dial tcp 203.0.113.25:25: connect: connection refused |",
		"| SMTP at the VIP | 104 | +0.000 s | +1.030 s | dial tcp 192.0.2.1-\\>203.0.113.25:25: i/o timeout |", // whatever the client's port
		"- `+0.001 s` **lab**: kill east-mx1\n",
		"- `+0.310 s` east-lb1: real mx1 of farm smtp: active → failed (tcp 203.0.113.25:25: connect: connection refused)\n",
		"- and 2 lines of less weight\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for _, link := range regexp.MustCompile(`!\[timeline\]\((.*?)\)`).FindAllStringSubmatch(text, -1) {
		wellFormed(t, read(t, dir, link[1]))
	}
	if plots, _ := filepath.Glob(filepath.Join(dir, "plots", "*.svg")); len(plots) != 3 {
		t.Errorf("plots: %v", plots)
	}
}

// One file is the whole page: it needs nothing beside it, and no script.
func TestPage(t *testing.T) {
	text := read(t, written(t), "report.html")
	if n := strings.Count(text, "<svg role="); n != 3 {
		t.Errorf("%d plots, want 3", n)
	}
	for _, bad := range []string{"<script", "<link", "<img", "src=", "url(", "@import", "<?xml"} {
		if strings.Contains(text, bad) {
			t.Errorf("%s is in the page", bad)
		}
	}
	if links := regexp.MustCompile(`href="[^#"]`).FindString(text); links != "" {
		t.Errorf("the page links to elsewhere: %s", links)
	}
	_, body, _ := strings.Cut(text, "<main>")
	if left := regexp.MustCompile(`(fill|stroke):#[0-9A-F]{6}`).FindString(body); left != "" {
		t.Errorf("a colour does not follow light and dark: %s", left)
	}
	for _, id := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(text, `id="`+id[1]+`"`) {
			t.Errorf("nothing has the id %s", id[1])
		}
	}
}

// What others wrote is shown, and stays text.
func TestTextsAreEscaped(t *testing.T) {
	const hostile = "<script>alert('x')</script>|**\"&\n# [a](b) `c`"
	run := example(t)
	l := &run.Labs[0]
	l.Topology, l.Resolver, run.Name = hostile, hostile, "lab"
	l.Windows[0].Marks[0].Text = hostile
	for i := range l.Rows {
		l.Rows[i].Fault, l.Rows[i].TookOver, l.Rows[i].Why, l.Rows[i].Promise = hostile, hostile, hostile, hostile
	}
	for i := range l.Events {
		l.Events[i].To, l.Events[i].Err = hostile, hostile
	}
	log := fmt.Sprintf("time=%s level=INFO msg=withdrawn role=lb prefix=%q\n", at(5_100).Format(time.RFC3339Nano), hostile)
	if err := os.WriteFile(filepath.Join(l.Logs, "<script>.log"), []byte(log), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Write(run, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.html", "report.md"} {
		if text := read(t, dir, name); strings.Contains(text, "<script") || !strings.Contains(text, "alert(") {
			t.Errorf("%s has a script, or not its text", name)
		}
	}
	plots, _ := filepath.Glob(filepath.Join(dir, "plots", "*.svg"))
	for _, name := range plots {
		wellFormed(t, read(t, name))
	}
	bars := regexp.MustCompile(`(^|[^\\])\|`)
	for line := range strings.Lines(read(t, dir, "report.md")) {
		if n := len(bars.FindAllString(line, -1)); strings.HasPrefix(line, "| ") && n != len(table())+1 && n != 6 {
			t.Errorf("%d bars in a line of a table: %s", n, line)
		}
	}
}

func TestNothingToShow(t *testing.T) {
	now := at(0)
	for name, run := range map[string]score.Run{
		"nothing":     {Name: "demo"},
		"no window":   {Name: "demo", Labs: []score.Lab{{Topology: "two-site", Rows: []score.Row{{Fault: "f"}}}}},
		"no length":   {Name: "demo", Labs: []score.Lab{{Windows: []score.Window{{From: now, To: now}}, Rows: make([]score.Row, 1)}}},
		"ends early":  {Name: "demo", Labs: []score.Lab{{Windows: []score.Window{{From: now, To: at(-9)}}, Rows: make([]score.Row, 1)}}},
		"no log":      {Name: "demo", Labs: []score.Lab{{Logs: "/nowhere", Windows: []score.Window{{From: now, To: at(9)}}, Rows: make([]score.Row, 1)}}},
		"no row":      {Name: "demo", Labs: []score.Lab{{Windows: []score.Window{{From: now, To: at(9)}}}}},
		"one attempt": {Name: "demo", Labs: []score.Lab{{Windows: []score.Window{{From: now, To: at(9)}}, Rows: make([]score.Row, 1), Events: []client.Event{probe(client.KindVIP, 1, 1, false, false)}}}},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		if err := Write(run, dir); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if text := read(t, dir, "demo.json"); !strings.HasPrefix(text, "[") {
			t.Errorf("%s: %s", name, text)
		}
		for _, text := range []string{read(t, dir, "report.md"), read(t, dir, "report.html")} {
			if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
				t.Errorf("%s: there is no such number", name)
			}
		}
	}
}

// A long window in which half of everything fails must not make a plot that no browser can show.
func TestPlotStaysSmall(t *testing.T) {
	w := score.Window{From: zero, To: at(300_000)}
	r := score.Row{OutageVIPMS: 290_000, OutageDeliveryMS: 100_000}
	var seen []client.Event
	for ms := 0; ms < 300_000; ms += 10 {
		odd := ms/10%2 == 1 || ms/1000%3 == 0
		seen = append(seen, probe(client.KindVIP, ms, 3, odd, false), probe(client.KindName, ms, 3, !odd, false),
			client.Event{Kind: client.KindHeld, ID: fmt.Sprint(ms % 1000), OK: odd, Start: at(ms), End: at(ms + 1)},
			client.Event{Kind: client.KindMail, To: fmt.Sprint(ms % 400), OK: !odd, Start: at(ms), End: at(ms + 40)})
	}
	began := time.Now()
	svg, err := newTimeline(w, r, seen, nil).svg()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events: %d bytes in %v", len(seen), len(svg), time.Since(began))
	if len(svg) > 300_000 {
		t.Errorf("plot of %d bytes, want at most 300,000", len(svg))
	}
}

func TestTable(t *testing.T) {
	got := Table([]score.Row{
		{Fault: "real killed", OutageVIPMS: 334, ConnectionsBroken: 20, TookOver: "mx2", Promise: "vip 1s, broken 0", Why: "broken: promised 0, was 20"},
	})
	want := `fault        outage at the VIP  by name  delivery  submission  connections broken  IDLE broken  mails lost  mails doubled  who took over  the design promises  result
-----        -----------------  -------  --------  ----------  ------------------  -----------  ----------  -------------  -------------  -------------------  ------
real killed  334 ms             none     none      none        20                  0            0           0              mx2            VIP ≤ 1 s, 0 broken  FAIL
FAIL real killed: broken: promised 0, was 20
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
