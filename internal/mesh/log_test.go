package mesh

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// logBuffer is a log that many goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) count(text string) int { return strings.Count(l.String(), text) }

func newLog(level slog.Level) (*slog.Logger, *logBuffer) {
	b := new(logBuffer)
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: level})), b
}

func TestMemberlistLines(t *testing.T) {
	log, b := newLog(slog.LevelInfo)
	rejected := map[string]int{}
	var general, strange notes
	w := mlWriter{log, &general, &strange, func(r string) { rejected[r]++ }}
	for range 3 {
		for _, line := range []string{
			"[DEBUG] memberlist: Stream connection from=198.51.100.3:40000",
			"[INFO] memberlist: Marking lb2 as failed, suspect timeout reached (0 peer confirmations)",
			"[WARN] memberlist: Refuting a suspect message (from: lb2)",
			"[ERR] memberlist: Failed to send UDP ping: network is unreachable",
			"[ERROR] memberlist: Failed to encrypt local state: why",
			"no level at all",
			"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=198.51.100.3:7946",
			"[ERR] memberlist: failed to receive: no installed keys could decrypt the message from=198.51.100.3:41000",
			"[ERR] memberlist: failed to receive: encryption is configured but remote state is not encrypted from=[2001:db8::3]:41000",
			"[ERR] memberlist: Push/Pull with lb2 failed: no installed keys could decrypt the message",
			"[ERR] memberlist: discarding stream with unacceptable label \"gss\": from=198.51.100.5:41000",
		} {
			fmt.Fprintln(w, line)
		}
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		_, line, _ = strings.Cut(line, " ") // the time
		got = append(got, strings.TrimSpace(line))
	}
	want := []string{
		`level=INFO msg="memberlist says" text="Marking lb2 as failed, suspect timeout reached (0 peer confirmations)" skipped=0`,
		`level=WARN msg="memberlist says" text="Refuting a suspect message (from: lb2)" skipped=0`,
		`level=WARN msg="memberlist says" text="Failed to send UDP ping: network is unreachable" skipped=0`,
		`level=WARN msg="memberlist says" text="Failed to encrypt local state: why" skipped=0`,
		`level=INFO msg="memberlist says" text="no level at all" skipped=0`,
		`level=WARN msg="a peer has another mesh key: give every member the same" peer=198.51.100.3`,
		`level=WARN msg="a peer has another mesh key: give every member the same" peer=2001:db8::3`,
		`level=WARN msg="a peer is of another mesh: take its address out of join, or give the meshes keys of their own" peer=198.51.100.5`,
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
	if rejected[reasonKey] != 9 || rejected[reasonGroup] != 3 || len(rejected) != 2 {
		t.Errorf("counted %v", rejected)
	}
}

func TestNotes(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n := notes{max: 2}
	due := func(kind string, every time.Duration) string {
		skipped, ok := n.due(kind, every, at)
		return fmt.Sprint(ok, " ", skipped)
	}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	expect("first", due("a", time.Minute), "true 0")
	expect("again", due("a", time.Minute), "false 0")
	at = at.Add(time.Minute)
	expect("a minute later", due("a", time.Minute), "true 1")
	expect("once", due("b", once), "true 0")
	at = at.Add(time.Hour)
	expect("once", due("b", once), "false 0")
	expect("one kind too many", due("c", once), "false 0")
	n.forget("b")
	expect("a place is free", due("c", once), "true 0")
	at = at.Add(noteFor + time.Second)
	expect("old ones make room", due("b", once), "true 0")
}
