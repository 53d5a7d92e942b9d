package events

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	ever  = time.Time{}
	never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
)

// scan reads one node's log.
func scan(t *testing.T, log string) *Log {
	t.Helper()
	l, err := Scan("n", strings.NewReader(log), ever, never)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const stamp = "time=2026-11-29T20:30:55.621Z level=INFO "

func TestMeaning(t *testing.T) {
	tests := []struct {
		line, label, text string
		kind              Kind
		important         bool
	}{
		{line: `msg=withdrawn role=lb prefix=203.0.113.25/32`, kind: Withdrawn, important: true,
			label: "withdraws 203.0.113.25/32", text: "withdraws 203.0.113.25/32"},
		{line: `msg="real changed" role=lb farm=smtp real=mx1 old=active new=failed cause="tcp 203.0.113.25:25: connect: connection refused"`,
			kind: Real, important: true, label: "mx1 failed",
			text: "real mx1 of farm smtp: active → failed (tcp 203.0.113.25:25: connect: connection refused)"},
		{line: `msg="real changed" role=lb farm=smtp real=mx1 old=joining new=active cause=""`, kind: Real,
			label: "mx1 active", text: "real mx1 of farm smtp: joining → active"},
		{line: `msg="BFD down" role=rhi peer=east-core1 old=up new=down cause="nothing heard for 150ms"`, kind: BFD, important: true,
			label: "BFD to east-core1 down", text: "BFD to east-core1: up → down (nothing heard for 150ms)"},
		{line: `msg="answer moved" role=gss answer=smtp-east old=serving new=out cause="fails"`, kind: Answer, important: true,
			label: "smtp-east out", text: "answer smtp-east: serving → out (fails)"},
		{line: `msg="probe state changed" role=gss answer=smtp-east probe=tcp address=192.0.2.1 new=failing cause=x`, kind: Probe,
			label: "probe of smtp-east failing", text: "probe tcp of answer smtp-east at 192.0.2.1: failing (x)"},
		{line: `msg="replica is unfit" role=store lun=lun-east1 reason=disk why="it is full"`, kind: Disk, important: true,
			label: "lun-east1 unfit: disk", text: "replica of lun-east1 is unfit (disk): it is full"},
		{line: `msg="replica is unfit" role=store lun=lun-east1 reason=order why=drained`, kind: LUN, important: true,
			label: "lun-east1 unfit: order", text: "replica of lun-east1 is unfit (order): drained"},
		{line: `msg=order role=smtp drained=true why="by hand"`, kind: Order, important: true,
			label: "order: drained true", text: "order, drained true: by hand"},
		{line: `msg=order role=lb farm=smtp real=mx1 old="" new=drain cause="drained by hand"`, kind: Order, important: true,
			label: "order: mx1 drain", text: "order for real mx1 of farm smtp: → drain (drained by hand)"},
		{line: `msg="process ended" role=lab command=anycastle how=killed`, kind: Process, important: true,
			label: "anycastle killed", text: "anycastle ended: killed"},
	}
	for _, tt := range tests {
		got := scan(t, stamp+tt.line+"\n")
		if len(got.Events) != 1 || got.Unread != 0 {
			t.Errorf("%s: %+v", tt.line, got)
			continue
		}
		e := got.Events[0]
		want := Event{Time: time.Date(2026, 11, 29, 20, 30, 55, 621e6, time.UTC), Node: "n", Role: e.Role,
			Kind: tt.kind, Label: tt.label, Text: tt.text, Important: tt.important}
		if diff := cmp.Diff(want, e); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, diff)
		}
	}
}

func TestWarningsAreAlarms(t *testing.T) {
	got := scan(t, `time=2026-11-29T20:30:55Z level=WARN msg="a member is not reached; trying on" role=lb peer=198.51.100.3:7947 err="no\nroute"
time=2026-11-29T20:30:56Z level=ERROR msg="routes out of line, will try again" role=rhi
time=2026-11-29T20:30:57Z level=INFO msg="message handed on" role=smtp id=1
`)
	var texts []string
	for _, e := range got.Events {
		texts = append(texts, fmt.Sprint(e.Kind, " ", e.Important, " ", e.Text))
	}
	want := []string{
		"alarm false a member is not reached; trying on, peer 198.51.100.3:7947, err no route",
		"alarm true routes out of line, will try again",
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a kill leaves, and what others wrote, is counted and hides nothing.
func TestLinesThatAreNone(t *testing.T) {
	good := stamp + "msg=withdrawn role=lb prefix=203.0.113.25/32\n"
	for name, bad := range map[string]string{
		"cut in a quote":       stamp + `msg="session do`,
		"cut before the value": stamp[:20],
		"no time":              "level=INFO msg=withdrawn prefix=x",
		"no message":           stamp,
		"no level":             "time=2026-11-29T20:30:55.621Z msg=withdrawn",
		"of another program":   "2026/11/29 20:30:55 BGP: [M59KS-A3ZXZ] bgp_update_receive",
		"too long":             stamp + "msg=withdrawn prefix=" + strings.Repeat("x", maxLine),
		"not text":             "\x00\xff\x00",
		"torn together":        stamp + `msg="session down"peer=x`,
	} {
		got := scan(t, good+bad+"\n\n"+good)
		if len(got.Events) != 2 || got.Unread != 1 {
			t.Errorf("%s: %d events and %d unread lines, want 2 and 1: %+v", name, len(got.Events), got.Unread, got.Events)
		}
	}
	if got := scan(t, good+strings.TrimSpace(good)); len(got.Events) != 2 {
		t.Errorf("a last line without an end is not read: %+v", got)
	}
}

func TestProcessThatFallsHasTheTimeBefore(t *testing.T) {
	got := scan(t, "panic: too early\n"+stamp+"msg=x\npanic: runtime error: index out of range\n\ngoroutine 1 [running]:\n")
	if len(got.Events) != 1 || got.Unread != 2 {
		t.Fatalf("%+v", got)
	}
	if e := got.Events[0]; e.Kind != Process || !e.Important || e.Time.Second() != 55 || !strings.HasSuffix(e.Text, "out of range") {
		t.Errorf("%+v", e)
	}
}

func TestReadJoinsNodesByTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[1]")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	line := func(second int) string {
		return fmt.Sprintf("time=2026-11-29T20:30:%02d.5Z level=INFO msg=withdrawn role=lb prefix=203.0.113.25/32\n", second)
	}
	for name, text := range map[string]string{
		"east-lb1.log": line(1) + line(3) + line(5),
		"east-lb2.log": line(2) + line(4),
		"client.jsonl": "{}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	from := time.Date(2026, 11, 29, 20, 30, 2, 0, time.UTC)
	got, err := Read(dir, from, from.Add(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var nodes []string
	for _, e := range got.Events {
		nodes = append(nodes, e.Node)
	}
	if diff := cmp.Diff([]string{"east-lb2", "east-lb1", "east-lb2"}, nodes); diff != "" || got.Files != 2 || got.Unread != 0 {
		t.Errorf("%+v\n%s", got, diff)
	}
	if got, err := Read(filepath.Join(dir, "none"), ever, never); err != nil || got.Files != 0 {
		t.Errorf("no folder: %+v, %v", got, err)
	}
}

func TestNoMoreThanTheMostIsKept(t *testing.T) {
	r := newReader(ever, never)
	r.most = 10
	if err := r.scan("n", strings.NewReader(strings.Repeat(stamp+"msg=withdrawn prefix=x\n", 17))); err != nil {
		t.Fatal(err)
	}
	if len(r.log.Events) != 10 || r.log.Left != 7 {
		t.Errorf("%d events, %d left; want 10 and 7", len(r.log.Events), r.log.Left)
	}
}

// A role whose message is put in other words would vanish from reports.
func TestRolesLogTheseMessages(t *testing.T) {
	var source strings.Builder
	for _, room := range []string{"cmd", "lb", "rhi", "gss", "mailroles", "internal", "lab/runner"} {
		err := filepath.WalkDir(filepath.Join("../..", room), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			source.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	spelled := []string{"BFD up", "BFD init", "BFD down", "BFD admin-down"} // "BFD " and the state's name
	for _, r := range rules() {
		if !slices.Contains(spelled, r.msg) && !strings.Contains(source.String(), `"`+r.msg+`"`) {
			t.Errorf("nothing logs %q", r.msg)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add(stamp + `msg="real changed" role=lb farm=smtp real=mx1 old=active new=failed cause="tcp: \"x\""` + "\n")
	f.Add("lab: anycastle ended: killed\n" + stamp + "msg=x\nlab: anycastle ended: killed")
	f.Add(`time=2026-11-29T20:30:55Z level=ERROR+2 "msg"="\u00e9{x}" =`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Scan("n", strings.NewReader(text), ever, never)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(text, "\n") + 1; len(l.Events)+l.Unread > lines {
			t.Errorf("%d events and %d unread lines of %d lines", len(l.Events), l.Unread, lines)
		}
		for _, e := range l.Events {
			if e.Kind == "" || e.Node != "n" || e.Time.IsZero() || strings.ContainsAny(e.Text+e.Label, "\n\r\x00\x1b") ||
				len([]rune(e.Text)) > maxText || len([]rune(e.Label)) > maxLabel {
				t.Errorf("%+v", e)
			}
		}
	})
}
