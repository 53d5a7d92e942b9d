package imapd

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/link"
	"anycastle/mailroles/store"
)

// offering opens the user's session as a front end does that knows how to move it, with a state or without.
func (s *site) offering(state string) *talk {
	s.t.Helper()
	k := s.connect()
	text := "hold ANYCASTLE-HOLD\r\n"
	if state != "" {
		text += fmt.Sprintf("attach ANYCASTLE-ATTACH {%d+}\r\n%s\r\n", len(state), state)
	}
	k.write(text + "login AUTHENTICATE EXTERNAL " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n")
	k.expect("hold OK")
	k.expect("login OK")
	return k
}

// attached opens a session that goes on where another was.
func (s *site) attached(state string) *talk {
	s.t.Helper()
	k := s.offering(state)
	if diff := cmp.Diff([]string{"attach OK Session goes on"}, k.until("attach ")); diff != "" {
		s.t.Fatal(diff)
	}
	return k
}

// holding begins a Hold, and gives what waits for its end.
func (s *site) holding() (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		s.server.Hold(ctx)()
		if ctx.Err() != nil {
			s.t.Error("sessions stay")
		}
	}()
	return func() { <-done }
}

// detach takes the session away after the store has asked for it.
func (k *talk) detach() (state string) {
	k.t.Helper()
	k.expect(strings.TrimSpace(link.HoldLine))
	k.write("front ANYCASTLE-DETACH\r\n")
	line := k.expect("* ANYCASTLE-STATE {")
	var n int
	if _, err := fmt.Sscanf(line, "* ANYCASTLE-STATE {%d}", &n); err != nil {
		k.t.Fatal(err)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(k.br, text); err != nil {
		k.t.Fatal(err)
	}
	if got := k.ended(); len(got) != 2 || got[0] != "" || got[1] != "front OK Session is yours" {
		k.t.Fatalf("session ends with %q", got)
	}
	return string(text)
}

// move takes a session away and brings it back, with what happens between.
func (s *site) move(k *talk, between func()) *talk {
	s.t.Helper()
	wait := s.holding()
	state := k.detach()
	wait()
	between()
	return s.attached(state)
}

func TestSessionGoesOnElsewhere(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello, hello, hello)
	k := s.offering("")
	k.ask("e ENABLE IMAP4rev2", "e OK")
	k.ask("a SELECT INBOX", "a OK")
	k.ask("b SEARCH RETURN (SAVE) 2:3", "b OK")
	k = s.move(k, func() {
		s.put(hello)
		other := s.selected()
		other.ask(`a STORE 3 +FLAGS (\Seen fresh)`, "a OK")
		other.ask(`b STORE 1 +FLAGS.SILENT (\Deleted)`, "b OK")
		other.ask("c EXPUNGE", "c OK")
		other.conn.Close()
	})
	// FETCH may tell of all but what is gone; message 1 has nothing to show
	got := k.ask("c FETCH 1:3 UID", "c OK")
	want := []string{
		"* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)", "* 4 EXISTS",
		`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft fresh)`,
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("after the move %q is missing in %q", line, got)
		}
	}
	if !slices.ContainsFunc(got, func(l string) bool {
		return strings.HasPrefix(l, "* 3 FETCH") && strings.Contains(l, "fresh") && strings.Contains(l, `\Seen`)
	}) {
		t.Errorf("flags of message 3 are not told: %q", got)
	}
	if diff := cmp.Diff([]string{"* 1 EXPUNGE"}, k.ask("d NOOP", "d OK")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"* 1 FETCH (UID 2)", "* 2 FETCH (UID 3)"}, k.ask("f FETCH $ UID", "f OK")); diff != "" {
		t.Errorf("the saved search: %s", diff)
	}
	if got := k.ask("g FETCH 1 UID", "g OK"); len(got) != 1 {
		t.Errorf("something is told twice: %q", got)
	}
	if got := k.ask("h SELECT INBOX", "h OK"); !slices.Contains(got, `* LIST () "." "INBOX"`) && !strings.Contains(strings.Join(got, "\n"), "* LIST ") {
		t.Errorf("IMAP4rev2 is not enabled any more: %q", got)
	}
}

func TestRecentStaysWhereItWas(t *testing.T) {
	s := newSite(t, nil)
	k := s.offering("")
	k.ask("a SELECT INBOX", "a OK")
	s.put(hello)
	k.ask("b NOOP", "b OK")
	k = s.move(k, func() {})
	if got := k.ask("c FETCH 1 FLAGS", "c OK"); len(got) != 1 || !strings.Contains(got[0], `\Recent`) {
		t.Errorf("message is not recent any more: %q", got)
	}
	other := s.selected()
	if got := other.ask("a FETCH 1 FLAGS", "a OK"); len(got) != 1 || strings.Contains(got[0], `\Recent`) {
		t.Errorf("message is recent for two: %q", got)
	}
}

func TestExaminedAndDeletedFolders(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello)
	k := s.offering("")
	k.ask("a CREATE box", "a OK")
	k.ask("b EXAMINE INBOX", "b OK")
	k = s.move(k, func() {})
	k.ask(`c STORE 1 +FLAGS (\Seen)`, "c NO [READ-ONLY]")
	k.ask("d COPY 1 box", "d OK")
	k.ask("e SELECT box", "e OK")
	k = s.move(k, func() {
		if err := s.box.Delete("box"); err != nil {
			t.Fatal(err)
		}
	})
	if diff := cmp.Diff([]string{"* 1 EXPUNGE"}, k.ask("f NOOP", "f OK")); diff != "" {
		t.Error(diff)
	}
	k.ask("g UNSELECT", "g OK")
	k = s.move(k, func() {})
	k.ask("h FETCH 1 UID", "h BAD")
	k.ask("i LIST \"\" *", "i OK")
}

func TestHoldWaitsForCommands(t *testing.T) {
	s := newSite(t, nil)
	k, idle := s.offering(""), s.offering("")
	idle.ask("a SELECT INBOX", "a OK")
	idle.idle()
	k.write(fmt.Sprintf("a APPEND INBOX {%d}\r\n", len(hello)))
	k.expect("+ ")
	wait := s.holding()
	idle.expect(strings.TrimSpace(link.HoldLine))
	k.write(hello + "\r\nb NOOP\r\n") // what was sent ahead is answered too
	idle.expect("* 1 EXISTS")
	k.expect("a OK [APPENDUID")
	idle.write("DONE\r\n")
	idle.expect("idle OK")
	idle.write("front ANYCASTLE-DETACH\r\n")
	idle.expect("front OK")
	k.detach()
	wait()
}

func TestNobodyLogsInWhileHeld(t *testing.T) {
	s := newSite(t, nil)
	old, busy := s.login(), s.offering("")
	busy.write(fmt.Sprintf("a APPEND INBOX {%d}\r\n", len(hello)))
	busy.expect("+ ")
	ctx, cancel := context.WithCancel(t.Context())
	released := make(chan func())
	go func() { released <- s.server.Hold(ctx) }()
	if diff := cmp.Diff([]string{"* BYE " + byeMoving}, old.ended()); diff != "" {
		t.Errorf("front end that knows nothing of it: %s", diff)
	}
	login := "login AUTHENTICATE EXTERNAL " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n"
	k := s.connect()
	k.write(login)
	k.expect("login NO [UNAVAILABLE]")
	cancel() // the busy one stays
	(<-released)()
	k.write(login)
	k.expect("login OK")
	busy.write(hello + "\r\n")
	busy.expect("a OK [APPENDUID")
	busy.detach() // it has been asked for
}

func TestDetachIsForWhoIsAsked(t *testing.T) {
	s := newSite(t, nil)
	s.login().ask("a ANYCASTLE-DETACH", "a BAD")
	s.offering("").ask("a ANYCASTLE-DETACH", "a BAD")
	s.login().ask("a ANYCASTLE-HOLD", "a BAD")
	k := s.login()
	k.write("a ANYCASTLE-ATTACH {2+}\r\n{}\r\n")
	k.expect("a BAD")
}

func TestStatesThatAreNone(t *testing.T) {
	s := newSite(t, nil)
	s.put(hello)
	inbox, err := s.box.Folder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	guid, _ := inbox.Identity()
	validity := inbox.Snapshot().Validity
	for name, tc := range map[string]struct{ state, want string }{
		"no JSON":      {"x", "attach BAD"},
		"a set":        {`{"folder":{"known":"1:*"}}`, "attach BAD"},
		"much":         {`{"folder":{"known":"1:4000000000"}}`, "attach BAD"},
		"disorder":     {`{"folder":{"known":"5,1"}}`, "attach OK"},
		"overlap":      {`{"folder":{"known":"1:5,3"}}`, "attach BAD"},
		"a line":       {`{"enabled":["x\r\ny LOGOUT"]}`, "attach BAD"},
		"the future":   {fmt.Sprintf(`{"folder":{"guid":%q,"validity":%d,"generation":99999999}}`, guid, validity), "attach NO"},
		"another UIDs": {fmt.Sprintf(`{"folder":{"guid":%q,"validity":%d}}`, guid, validity+1), "attach NO"},
		"nothing":      {"{}", "attach OK"},
	} {
		k := s.connect()
		k.write(fmt.Sprintf("attach ANYCASTLE-ATTACH {%d+}\r\n%s\r\n", len(tc.state), tc.state))
		k.write("login AUTHENTICATE EXTERNAL " + base64.StdEncoding.EncodeToString([]byte(user)) + "\r\n")
		if got := k.expect("attach "); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestPassiveReplicaSaysNothing has a replica lose its lease at various moments.
func TestPassiveReplicaSaysNothing(t *testing.T) {
	passive := func() error { return store.ErrPassive }
	s := newSite(t, nil)
	s.put(strings.Repeat("x", maxSize-100))
	set := func(g func() error) {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		for guard := range s.server.guards {
			guard.write.Lock()
			guard.serving = g
			guard.write.Unlock()
		}
	}
	k := s.selected()
	set(passive)
	k.write("a FETCH 1 UID\r\n")
	if diff := cmp.Diff([]string{"* BYE " + byeMoving}, k.ended()); diff != "" {
		t.Errorf("before an answer: %s", diff)
	}
	k = s.selected()
	n := 0
	set(func() error { // within the answer
		if n++; n > 2 {
			return store.ErrPassive
		}
		return nil
	})
	k.write("a FETCH 1 BODY[]\r\n")
	if got := k.ended(); len(got) == 0 || strings.Contains(got[len(got)-1], "BYE") || strings.HasPrefix(got[len(got)-1], "a ") {
		t.Errorf("within an answer: %q", got[len(got)-1])
	}
	k = s.offering("")
	wait := s.holding()
	k.expect(strings.TrimSpace(link.HoldLine))
	set(passive)
	k.write("front ANYCASTLE-DETACH\r\n")
	k.expect("front OK")
	wait()
}

func TestAnswersToErrorsOfReplicas(t *testing.T) {
	s := newSite(t, nil)
	for _, tc := range []struct {
		err  error
		ends bool
	}{{store.ErrPassive, true}, {store.ErrAlone, false}, {store.ErrUnfit, false}, {store.ErrMissing, false}} {
		ses := &session{server: s.server, guard: newGuard(nil, 1, func() {})}
		err := ses.reply(fmt.Errorf("append: %w", tc.err))
		if got, ok := errors.AsType[*imap.Error](err); !ok || got.Code != imap.ResponseCodeUnavailable {
			t.Errorf("%v: answer is %v", tc.err, err)
		}
		if ends := ses.guard.ending != ""; ends != tc.ends {
			t.Errorf("%v: session ends: %v", tc.err, ends)
		}
	}
}

// FuzzState: what is read as a state can be written and read again.
func FuzzState(f *testing.F) {
	for _, text := range []string{
		"{}", `{"enabled":["IMAP4rev2"],"folder":{"guid":"x","name":"INBOX","validity":1,"generation":7,"known":"1:3,5"}}`,
		`{"folder":{"known":"1:4294967295","recent":"*","saved":"2,1"}}`, `{"enabled":["a b"]}`, `[]`, `{"folder":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		st, err := parseState(text)
		if err != nil || st.Folder == nil {
			return
		}
		known, err := spans(st.Folder.Known)
		if err != nil {
			t.Fatal(err)
		}
		again, err := spans(setText(known))
		if err != nil || !slices.Equal(known, again) {
			t.Errorf("%q is read as %v, and that as %v (%v)", st.Folder.Known, known, again, err)
		}
	})
}
