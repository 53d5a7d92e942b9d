package imapd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// idle begins to idle.
func (k *talk) idle() {
	k.t.Helper()
	k.write("idle IDLE\r\n")
	k.expect("+ ")
}

func TestIdleEnds(t *testing.T) {
	s := newSite(t, nil)
	k := s.selected()
	for _, tc := range []struct{ say, want string }{
		{"DONE", "idle OK"}, {"done", "idle OK"}, {"Done", "idle OK"}, {"x NOOP", "idle BAD"}, {"", "idle BAD"},
		{strings.Repeat("x", 100_000), "idle BAD"},
	} {
		k.idle()
		k.write(tc.say + "\r\nn NOOP\r\n")
		if got := k.until("n "); len(got) != 2 || !strings.HasPrefix(got[0], tc.want) || got[1] != "n OK NOOP completed" {
			t.Errorf("%.20q: %q", tc.say, got)
		}
	}
	for _, leave := range []string{"", "DO", "DONE\r\nx NOO"} {
		k := s.selected()
		k.idle()
		k.write(leave)
		k.conn.Close()
	}
	k.conn.Close()
	s.gone()
}

func TestIdleTells(t *testing.T) {
	s := newSite(t, nil)
	k, other := s.selected(), s.selected()
	k.idle()
	s.put(hello, hello)
	k.expect("* 2 EXISTS")
	other.ask("a NOOP", "a OK")
	other.ask(`b STORE 2 +FLAGS (\Flagged new)`, "b OK")
	k.expect("* FLAGS")
	k.expect("* 2 FETCH")
	other.ask(`c STORE 1 +FLAGS.SILENT (\Deleted)`, "c OK")
	other.ask("d EXPUNGE", "d OK")
	k.expect("* 1 EXPUNGE")
	k.write("DONE\r\n")
	k.expect("idle OK")
}

func TestIdleIsKeptAlive(t *testing.T) {
	s := newSite(t, func(s *Server) { s.keepAlive = 20 * time.Millisecond })
	for name, k := range map[string]*talk{"selected": s.selected(), "not": s.login()} {
		k.idle()
		k.expect("* OK Still here")
		k.expect("* OK Still here")
		k.write("DONE\r\n")
		if got := k.expect("idle "); !strings.HasPrefix(got, "idle OK") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestIdleNoticesThatTheClientIsGone(t *testing.T) {
	s := newSite(t, func(s *Server) { s.keepAlive = 20 * time.Millisecond })
	k := s.selected()
	k.idle()
	s.server.mu.Lock()
	for g := range s.server.guards {
		g.write.Lock()
		g.over = true // as after a write that failed; the connection is open and says nothing
		g.write.Unlock()
	}
	s.server.mu.Unlock()
	s.gone()
}

func TestServerEndsSessionsBetweenCommands(t *testing.T) {
	s := newSite(t, nil)
	before, resting, idling, busy := s.connect(), s.selected(), s.selected(), s.login()
	idling.idle()
	busy.write(fmt.Sprintf("a APPEND INBOX {%d}\r\n", len(hello)))
	busy.expect("+ ")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.stop()
	}()
	for name, k := range map[string]*talk{"before login": before, "resting": resting, "idling": idling} {
		if diff := cmp.Diff([]string{"* BYE " + byeEnding}, k.ended()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	busy.write(hello + "\r\nb CREATE late\r\n")
	got := busy.ended()
	if len(got) != 2 || !strings.HasPrefix(got[0], "a OK [APPENDUID") || !strings.HasPrefix(got[1], "* BYE") {
		t.Errorf("busy: %q", got)
	}
	<-stopped
	if got := s.stored("INBOX"); len(got) != 1 {
		t.Errorf("INBOX holds %q", got)
	}
	if folders, err := s.box.Folders(); err != nil || slices.Contains(folders, "late") {
		t.Errorf("folders are %q, %v", folders, err)
	}
}

func TestServerCutsOffWhoDoesNotEnd(t *testing.T) {
	const grace = 100 * time.Millisecond
	s := newSite(t, func(s *Server) { s.opt.Grace = grace })
	k := s.login()
	k.write("a APPEND INBOX {500}\r\n")
	k.expect("+ ")
	begun := time.Now()
	s.stop()
	if took := time.Since(begun); took < grace || took > grace+5*time.Second {
		t.Errorf("end took %v, want %v", took, grace)
	}
	k.ended()
	if got := s.stored("INBOX"); len(got) != 0 {
		t.Errorf("INBOX holds %q", got)
	}
}

func TestMovedMailboxEndsItsSessions(t *testing.T) {
	s := newSite(t, func(s *Server) { s.watchTime = 10 * time.Millisecond })
	resting, idling := s.selected(), s.selected()
	idling.idle()
	s.assign("lun-west", "")
	if err := s.dir.Reload(); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*talk{resting, idling} {
		if got := k.ended(); len(got) != 1 || !strings.HasPrefix(got[0], "* BYE") {
			t.Errorf("session ends with %q", got)
		}
	}
}

func TestQuota(t *testing.T) {
	s := newSite(t, nil)
	s.assign("lun-east", ", quota: {messages: 1}")
	if err := s.dir.Reload(); err != nil {
		t.Fatal(err)
	}
	k := s.login()
	k.write(appendOf("a", hello, "+"))
	k.expect("a OK")
	k.write(appendOf("b", hello, "+"))
	if got := k.expect("b "); !strings.HasPrefix(got, "b NO [OVERQUOTA]") {
		t.Errorf("append over the quota: %s", got)
	}
	k.write("c APPEND INBOX {100}\r\nd SELECT INBOX\r\ne COPY 1 INBOX\r\n") // the server does not ask for it
	k.expect("c NO [OVERQUOTA]")
	k.expect("d OK")
	k.expect("e NO [OVERQUOTA]")
}
