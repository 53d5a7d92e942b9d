package report

import (
	"fmt"
	"image/color"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/lab/client"
	"anycastle/lab/events"
	"anycastle/lab/score"
)

var allBars = cmp.AllowUnexported(bar{}, step{}, flag{}, said{})

func TestThinJoinsWhatNobodyCouldTellApart(t *testing.T) {
	s := scale{zero, 0, 8} // a column is 10 ms
	got := thin(s, []bar{{2, 2.1}, {-5, -4}, {-1, 0.5}, {2.105, 2.2}, {3, 3}, {7.9, 99}, {9, 10}}, 0)
	if diff := cmp.Diff([]bar{{0, 0.5}, {2, 2.2}, {3, 3}, {7.9, 8}}, got, allBars); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var many []bar
	for i := range 4 * maxBars {
		many = append(many, bar{float64(i), float64(i)})
	}
	if got := thin(scale{zero, 0, 4 * maxBars}, many, 0); len(got) > maxBars {
		t.Errorf("%d bars", len(got))
	}
}

// A gap between two good attempts is drawn as one when attempts are missing, and not between two that follow each other.
func TestAttemptsFollowEachOther(t *testing.T) {
	var list []client.Event
	for ms := 0; ms < 1000; ms += 10 {
		if ms < 500 || ms >= 700 {
			list = append(list, probe(client.KindVIP, ms, 2, ms >= 300 && ms < 350, false))
		}
	}
	r := attemptRow(scale{zero, -1, 1}, list)
	if len(r.good) != 3 || len(r.bad) != 1 {
		t.Errorf("good %v, bad %v", r.good, r.bad)
	}
}

func TestSessionsOpen(t *testing.T) {
	list := []client.Event{
		again("held", "1", -900), again("held", "2", -800), // before what is drawn
		broken("held", "1", 100, 5_000), again("held", "1", 5_100), broken("held", "1", 9_000, 9_001), // after it
		again("held", "2", 200), // a second time
	}
	steps, most := open(scale{zero, -0.5, 6}, list)
	want := []step{{-0.5, 2}, {0.1, 1}, {0.206, 1}, {5.106, 2}}
	if diff := cmp.Diff(want, steps, allBars); diff != "" || most != 2 {
		t.Errorf("most %d (-want +got):\n%s", most, diff)
	}
}

// The stretch of an outage is found again from its length, whatever way it was measured.
func TestOutageLies(t *testing.T) {
	mail := func(to string, from, end int, ok bool) client.Event {
		return client.Event{Kind: client.KindMail, To: to, Start: at(from), End: at(end), OK: ok}
	}
	list := []client.Event{
		mail("a", 0, 40, true), mail("b", 30, 70, true), mail("a", 500, 2000, false), mail("b", 530, 600, true), mail("a", 2100, 3000, true),
	}
	for _, tt := range []struct {
		name string
		ms   int64
		want float64
	}{
		{"from the first that failed", 2500, 0.5},
		{"from the acknowledgement before", 2960, 0.04},
		{"not ended", 7777, 0.5},
	} {
		got := where(scale{zero, -1, 8}, lanesShown()[4], score.Row{OutageDeliveryMS: tt.ms}, list)
		if got == nil || got.from != tt.want {
			t.Errorf("%s: %+v, want it to begin at %v", tt.name, got, tt.want)
		}
	}
	if got := where(scale{zero, -1, 8}, lanesShown()[4], score.Row{}, list); got != nil {
		t.Errorf("no outage: %+v", got)
	}
}

func TestLanesOfPodsStandApart(t *testing.T) {
	var list []client.Event
	for _, pod := range []string{"2", "1"} {
		for _, service := range []string{client.ServiceSubmission, client.ServiceIMAP} {
			list = append(list, client.Event{Kind: client.KindVIPs, Pod: pod, Service: service, Start: at(0), End: at(5), OK: true})
		}
		list = append(list, client.Event{Kind: client.KindVIP, Pod: pod, Start: at(0), End: at(5), OK: true})
	}
	var names []string
	for _, l := range lanes(scale{zero, -1, 4}, score.Row{}, list) {
		names = append(names, l.name)
	}
	want := []string{
		"pod 1: SMTP at the VIP", "pod 2: SMTP at the VIP",
		"pod 1: IMAP at the VIP", "pod 1: submission at the VIP", "pod 2: IMAP at the VIP", "pod 2: submission at the VIP",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func said1(ms int, node string, kind events.Kind, label string) events.Event {
	return events.Event{Time: at(ms), Node: node, Kind: kind, Label: label, Important: true}
}

func TestFlagsAreFewAndJoined(t *testing.T) {
	list := []events.Event{
		said1(300, "lb1", events.Real, "mx1 failed"),
		said1(310, "lb2", events.Real, "mx1 failed"),
		said1(320, "lb1", events.Withdrawn, "withdraws a"),
		said1(325, "lb1", events.Withdrawn, "withdraws b"),
		said1(330, "lb1", events.Withdrawn, "withdraws c"),
		{Time: at(340), Node: "lb1", Kind: events.Probe, Label: "probe"}, // of no weight
		said1(2000, "lb1", events.Real, "mx1 failed"),
	}
	got := flags(scale{zero, -1, 5}, []score.Mark{{At: at(1), Text: "kill mx1"}, {At: at(9_000), Text: "later"}}, list)
	want := []flag{
		{0.001, "kill mx1", true}, {0.3, "mx1 failed (lb1, lb2)", false}, {0.32, "lb1: withdraws a +2", false}, {2, "lb1: mx1 failed", false},
	}
	if diff := cmp.Diff(want, got, allBars); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var flood []events.Event
	for i := range 5000 {
		flood = append(flood, said1(i, fmt.Sprint("n", i%30), events.Member, fmt.Sprint("lost ", i)))
	}
	flood = append(flood, said1(4_900, "isp", events.BFD, "BFD down"))
	if got := flags(scale{zero, -1, 5}, nil, flood); len(got) != maxFlags || !strings.Contains(fmt.Sprint(got), "BFD down") {
		t.Errorf("%d flags: %v", len(got), got)
	}
}

// No text may lie on another or on the line of another, however the flags fall.
func TestFlagsDoNotOverlap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	dropped := 0
	for range 3000 {
		var list []flag
		crowd := r.Float64() * 800
		for range 1 + r.IntN(maxFlags) {
			x := r.Float64() * 800
			if r.IntN(2) == 0 {
				x = min(crowd+r.Float64()*20, 800)
			}
			list = append(list, flag{at: x, text: strings.Repeat("x", 5+r.IntN(40))})
		}
		sortFlags(list)
		out := place(list, func(at float64) float64 { return at }, func(f flag) float64 { return float64(len(f.text)) * 5 }, 800, flagRows)
		for i, a := range out {
			if a.row < 0 {
				dropped++
				continue
			}
			if a.left < 0 || a.right > 800 {
				t.Fatalf("beyond the edge: %+v", a)
			}
			for j, b := range out {
				switch {
				case i == j || b.row < 0:
				case a.row == b.row && a.left < b.right && b.left < a.right:
					t.Fatalf("texts meet: %+v %+v", a, b)
				case a.row < b.row && b.x > a.left && b.x < a.right:
					t.Fatalf("a line runs through a text: %+v %+v", a, b)
				}
			}
		}
	}
	if dropped > 400 { // of some 20,000
		t.Errorf("%d flags are without a text", dropped)
	}
}

func TestTicksAreRound(t *testing.T) {
	for _, tt := range []struct {
		from, to    float64
		first, last string
		most        int
	}{
		{-1, 4, "-1.0", "4.0", 16}, {-1, 12, "-1", "12", 16}, {-1, 600, "0", "600", 16}, {-1, 0.5, "-1.0", "0.5", 16}, {-0.01, 0.01, "-0.010", "0.010", 16},
	} {
		got := ticks(tt.from, tt.to)
		if len(got) < 4 || len(got) > tt.most || got[0].Label != tt.first || got[len(got)-1].Label != tt.last {
			t.Errorf("from %v to %v: %d ticks, %s to %s", tt.from, tt.to, len(got), got[0].Label, got[len(got)-1].Label)
		}
	}
}

// The page finds the colours of a plot by how they are written there.
func TestColoursAreWrittenAsThemedExpects(t *testing.T) {
	run := example(t)
	p, plots, err := newPage(run)
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, text := range plots {
		all += text
	}
	for _, c := range []color.RGBA{ink, muted, faint, paper, band, good, soft, bad, shade, spoken, badText} {
		if !strings.Contains(all, ":"+hex(c)) {
			t.Errorf("%s is in no plot", hex(c))
		}
	}
	if len(p.Sections) != 3 {
		t.Errorf("%d sections", len(p.Sections))
	}
}

func TestWords(t *testing.T) {
	for n, want := range map[int64]string{0: "none", 343: "343 ms", 2855: "2.85 s", 123_456: "123 s"} {
		if got := ms(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for text, want := range map[string]string{
		"vip 500ms, name 8s, delivery 0, broken 3, lost 0": "VIP ≤ 0.5 s, name ≤ 8 s, delivery no outage, ≤ 3 broken, 0 lost",
		"what later versions say":                          "what later versions say",
	} {
		if got := promise(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := offset(-1500 * time.Microsecond); got != "-0.002 s" && got != "-0.001 s" {
		t.Error(got)
	}
}
