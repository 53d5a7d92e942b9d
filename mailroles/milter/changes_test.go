package milter

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/smtpd"
)

// add, insert and change are packets that edit fields.
func add(name, value string) []byte { return packet(ansAddField, name, "\x00", value, "\x00") }

func insert(at uint32, name, value string) []byte {
	return packet(ansInsertField, number(at), name, "\x00", value, "\x00")
}

func change(nth uint32, name, value string) []byte {
	return packet(ansChangeField, number(nth), name, "\x00", value, "\x00")
}

func TestChangesOfAMessage(t *testing.T) {
	const top, text = "Received: from here\r\n\tby there\r\n", "\r\nHello,\r\nworld.\r\n"
	const s1, s2, note = "Subject:  two spaces\r\n", "subject: another\r\n", "X-Note: caf\xe9\r\n"
	for _, tc := range []struct {
		name  string
		head  string // the envelope's; the body is letter
		flags uint32
		say   [][]byte
		want  string
	}{
		{"none", "", 0, nil, letter},
		{"add", "", 0, [][]byte{add("X-A", "b"), add("X-A", "c")}, top + s1 + s2 + note + "X-A: b\r\nX-A: c\r\n" + text},
		{"add with its own space", "", leadingSpace, [][]byte{add("X-A", "b"), add("X-A", "\tc")}, top + s1 + s2 + note + "X-A:b\r\nX-A:\tc\r\n" + text},
		{"insert at 0", "", 0, [][]byte{insert(0, "X-A", "b")}, "X-A: b\r\n" + letter},
		{"insert at 1", "", 0, [][]byte{insert(1, "X-A", "b"), insert(1, "X-A", "c")}, "X-A: c\r\nX-A: b\r\n" + letter},
		{"insert at 3", "", 0, [][]byte{insert(3, "X-A", "b")}, top + s1 + "X-A: b\r\n" + s2 + note + text},
		{"insert behind all", "", 0, [][]byte{insert(1<<32-1, "X-A", "b")}, top + s1 + s2 + note + "X-A: b\r\n" + text},
		{"insert above the head", "A-R: 1\r\n", 0, [][]byte{insert(0, "X-A", "b")}, "X-A: b\r\nA-R: 1\r\n" + letter},
		{"change the head", "A-R: 1\r\n", 0, [][]byte{change(1, "a-r", "2")}, "a-r: 2\r\n" + letter},
		{"change the second", "", 0, [][]byte{change(2, "SUBJECT", "new")}, top + s1 + "SUBJECT: new\r\n" + note + text},
		{"change by index 0", "", 0, [][]byte{change(0, "Subject", "new")}, top + "Subject: new\r\n" + s2 + note + text},
		{"change a folded one", "", 0, [][]byte{change(1, "Received", "x\n\ty\nz\r\n\tw")}, "Received: x\r\n\ty\r\n\tz\r\n\tw\r\n" + s1 + s2 + note + text},
		{"change one that is not there", "", 0, [][]byte{change(3, "Subject", "new")}, top + s1 + s2 + note + "Subject: new\r\n" + text},
		{"delete", "", 0, [][]byte{change(1, "Subject", "")}, top + s2 + note + text},
		{"delete both", "", 0, [][]byte{change(2, "Subject", ""), change(1, "Subject", "")}, top + note + text},
		{"delete one that is not there", "", 0, [][]byte{change(1, "X-None", "")}, letter},
		{"8 bits", "", 0, [][]byte{add("X-A", "\xe9\xc3\xa9")}, top + s1 + s2 + note + "X-A: \xe9\xc3\xa9\r\n" + text},
		{"no way into the body", "", 0, [][]byte{add("X-A", "b\n\nEvil: yes\r\r \nx")}, top + s1 + s2 + note + "X-A: b\r\n\tEvil: yes\r\n\tx\r\n" + text},
		{"new body", "", 0, [][]byte{packet(ansNewBody, "New\n"), packet(ansProgress), packet(ansNewBody, "li", "ne\r\rend")}, top + s1 + s2 + note + "\r\nNew\r\nline\r\n\r\nend\r\n"},
		{"new body, LF between packets", "", 0, [][]byte{packet(ansNewBody, "a\r"), packet(ansNewBody, "\nb\r\n\r\n\n")}, top + s1 + s2 + note + "\r\na\r\nb\r\n\r\n\r\n"},
		{"empty body", "", 0, [][]byte{packet(ansNewBody)}, top + s1 + s2 + note + "\r\n"},
		{"large body and a field", "", 0, [][]byte{packet(ansNewBody, strings.Repeat("0123456789abcd\r\n", 5000)), add("X-A", "b")}, top + s1 + s2 + note + "X-A: b\r\n\r\n" + strings.Repeat("0123456789abcd\r\n", 5000)},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			f := newFake(on(cmdEnd, append(tc.say, packet(ansAccept))...))
			f.flags = tc.flags
			s := openSession(t, chainOf(nil, f))
			defer s.Close()
			env := newEnvelope(t, tc.head, letter)
			if call, err := transact(t.Context(), s, env); err != nil {
				t.Fatalf("%s: %v", call, err)
			}
			if got := whole(t, env); got != tc.want {
				t.Errorf("message is\n%q, want\n%q", got, tc.want)
			}
		})
	}
}

func TestOddMessagesStayAsTheyAre(t *testing.T) {
	for name, tc := range map[string]struct{ message, want string }{
		"no field":             {"\r\nbody\r\n", "X-A: b\r\n\r\nbody\r\n"},
		"only fields":          {"A: b\r\n", "A: b\r\nX-A: b\r\n"},
		"nothing":              {"", "X-A: b\r\n"},
		"no empty line":        {"A: b\r\nno field\r\nC: d\r\n", "A: b\r\nX-A: b\r\nno field\r\nC: d\r\n"},
		"blank at first":       {" x\r\nA: b\r\n", "X-A: b\r\n\r\n x\r\nA: b\r\n"},
		"long field":           {"A: " + strings.Repeat("x", 70000) + "\r\n\r\n", "A: " + strings.Repeat("x", 70000) + "\r\nX-A: b\r\n\r\n"},
		"8 bits and odd names": {"A\x00: b\r\n\r\n", "X-A: b\r\nA\x00: b\r\n\r\n"},
		"blank line of blanks": {"A: b\r\n \r\n\r\nx\r\n", "A: b\r\n \r\nX-A: b\r\n\r\nx\r\n"},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFake(on(cmdEnd, add("X-A", "b"), packet(ansContinue)))
			s := openSession(t, chainOf(nil, f))
			defer s.Close()
			env := newEnvelope(t, "", tc.message)
			if call, err := transact(t.Context(), s, env); err != nil {
				t.Fatalf("%s: %v", call, err)
			}
			if got := whole(t, env); got != tc.want {
				t.Errorf("message is\n%q, want\n%q", got, tc.want)
			}
		})
	}
}

func TestHeaderThatWouldFillTheMemory(t *testing.T) {
	for name, text := range map[string]string{
		"bytes":  strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 1100) + "\r\n",
		"fields": strings.Repeat("A:\r\n", maxFields+1) + "\r\n",
		"a line": "A: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
	} {
		inBubble(t, name, func(t *testing.T) {
			c := chainOf(nil, newFake(obliging))
			s := openSession(t, c)
			defer s.Close()
			if call, err := transact(t.Context(), s, newEnvelope(t, "", text)); err != errLargeHead {
				t.Errorf("%s: %v", call, err)
			}
			if st := c.Status()[0]; len(st.Failures) != 0 {
				t.Errorf("the milter is blamed: %v", st.Failures)
			}
		})
	}
}

func TestChangesThatNoMilterMayMake(t *testing.T) {
	many := make([]byte, 0, 1<<20)
	for range maxChanges + 1 {
		many = append(many, add("X-A", "b")...)
	}
	for name, say := range map[string][]byte{
		"field without a name":    add("", "x"),
		"colon in a name":         add("A: b", "x"),
		"line end in a name":      add("A\r\nB", "x"),
		"8 bits in a name":        add("caf\xe9", "x"),
		"no index":                packet(ansChangeField, "abc"),
		"no recipient":            packet(ansAddRcpt, "<>\x00"),
		"recipient of two":        packet(ansAddRcpt, "<a@example.org> <b@example.org>\x00"),
		"line end in a sender":    packet(ansChangeFrom, "<a@example.org\r\nRCPT TO:<b@example.org>>\x00"),
		"parameters of a sender":  packet(ansChangeFrom, "<a@example.org>\x00SIZE=5\x00"),
		"recipient's parameters":  packet('2', "<a@example.org>\x00NOTIFY=NEVER\x00"),
		"too many changes":        many,
		"too large a change":      packet(ansAddField, "A\x00", strings.Repeat("x", maxPacket)),
		"too large a body":        packet(ansNewBody, strings.Repeat("x", 1<<20+1)),
		"too large a body by two": bytes.Repeat(packet(ansNewBody, strings.Repeat("x", 1<<19+1)), 2),
		"skip at the end":         packet(ansSkip),
	} {
		inBubble(t, name, func(t *testing.T) {
			c := chainOf(nil, newFake(on(cmdEnd, add("X-First", "1"), say, packet(ansAccept))))
			s := openSession(t, c)
			defer s.Close()
			env := newEnvelope(t, "", letter)
			if call, err := transact(t.Context(), s, env); err != errUnavailable || call != "message" {
				t.Errorf("%s: %v", call, err)
			}
			if got := whole(t, env); got != letter || env.From != "x@example.net" || len(env.To) != 2 {
				t.Errorf("envelope is changed: %q %+v", got, env)
			}
			if c.Status()[0].Failures[stageEnd] != 1 {
				t.Errorf("%+v", c.Status()[0])
			}
		})
	}
}

func TestChangesOfAnEnvelope(t *testing.T) {
	type result struct {
		From, Hold, To string
		Discard        bool
	}
	const both = "a@example.org b@example.org"
	for _, tc := range []struct {
		name string
		say  [][]byte
		want result
	}{
		{"sender", [][]byte{packet(ansChangeFrom, "<y@example.net>\x00")}, result{From: "y@example.net", To: both}},
		{"bounce", [][]byte{packet(ansChangeFrom, "<>\x00")}, result{To: both}},
		{"more", [][]byte{packet(ansAddRcpt, "<c@example.org>\x00"), packet(ansAddRcpt, "a@example.org\x00")}, result{From: "x@example.net", To: both + " c@example.org"}},
		{"fewer", [][]byte{packet(ansDeleteRcpt, "<a@example.org>\x00"), packet(ansDeleteRcpt, "<z@example.org>\x00")}, result{From: "x@example.net", To: "b@example.org"}},
		{"other", [][]byte{packet(ansDeleteRcpt, "a@example.org\x00"), packet(ansDeleteRcpt, "b@example.org\x00"), packet(ansAddRcpt, "trap@example.org\x00")}, result{From: "x@example.net", To: "trap@example.org"}},
		{"none", [][]byte{packet(ansDeleteRcpt, "a@example.org\x00"), packet(ansDeleteRcpt, "b@example.org\x00")}, result{From: "x@example.net", Discard: true}},
		{"quarantine", [][]byte{packet(ansQuarantine, "virus\r\n found\x00")}, result{From: "x@example.net", To: both, Hold: "m1: virus found"}},
		{"quarantine without a reason", [][]byte{packet(ansQuarantine)}, result{From: "x@example.net", To: both, Hold: "m1"}},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			c := chainOf(nil, newFake(on(cmdEnd, append(tc.say, packet(ansContinue))...)))
			s := openSession(t, c)
			defer s.Close()
			env := newEnvelope(t, "", letter)
			_, err := transact(t.Context(), s, env)
			got := result{From: env.From, Hold: env.Hold, Discard: errors.Is(err, smtpd.ErrDiscard)}
			if err != nil && !got.Discard {
				t.Fatal(err)
			}
			var to []string
			for _, r := range env.To {
				to = append(to, r.Address)
			}
			got.To = strings.Join(to, " ")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := c.Status()[0].Verdicts[verdictQuarantine]; (n == 1) != (tc.want.Hold != "") {
				t.Errorf("quarantined %d", n)
			}
		})
	}
}

func TestNothingIsChangedByARefusal(t *testing.T) {
	for _, verdict := range []byte{ansReject, ansTempfail, ansDiscard} {
		inBubble(t, string(verdict), func(t *testing.T) {
			say := [][]byte{add("X-A", "b"), packet(ansNewBody, "new"), packet(ansQuarantine, "x\x00"), packet(verdict)}
			s := openSession(t, chainOf(nil, newFake(on(cmdEnd, say...))))
			defer s.Close()
			env := newEnvelope(t, "", letter)
			if _, err := transact(t.Context(), s, env); err == nil {
				t.Error("passed")
			}
			if got := whole(t, env); got != letter || env.Hold != "" {
				t.Errorf("changed: %q, hold %q", got, env.Hold)
			}
		})
	}
}

func TestNextMilterSeesTheChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newFake(on(cmdEnd, change(1, "Subject", "marked"), insert(0, "X-Spam", "yes"), packet(ansNewBody, "short\n"), packet(ansAccept)))
		second := newFake(on(cmdEnd, change(1, "X-Spam", "very"), packet(ansQuarantine, "second\x00"), packet(ansContinue)))
		third := newFake(on(cmdEnd, packet(ansQuarantine, "third\x00"), packet(ansAccept)))
		s := openSession(t, chainOf(nil, first, second, third))
		defer s.Close()
		env := newEnvelope(t, "", letter)
		if call, err := transact(t.Context(), s, env); err != nil {
			t.Fatalf("%s: %v", call, err)
		}
		for i, want := range [][]string{{"L Subject| two spaces"}, {"L X-Spam|yes", "L Subject|marked", "B 7"}, {"L X-Spam|very"}} {
			got := "\n" + strings.Join([]*fake{first, second, third}[i].said(), "\n") + "\n"
			for _, w := range want {
				if !strings.Contains(got, "\n"+w+"\n") {
					t.Errorf("milter %d has not heard %q:%s", i+1, w, got)
				}
			}
		}
		want := "X-Spam: very\r\nReceived: from here\r\n\tby there\r\nSubject: marked\r\nsubject: another\r\nX-Note: caf\xe9\r\n\r\nshort\r\n"
		if got := whole(t, env); got != want || env.Hold != "m2: second" {
			t.Errorf("message is %q, hold %q", got, env.Hold)
		}
	})
}

func TestOrderOfTheChain(t *testing.T) {
	for _, tc := range []struct {
		name        string
		first       func(byte, []byte) ([]byte, bool)
		policy      string
		code        int // 0 for none
		firstHears  string
		secondHears string
	}{
		{"accept is of one milter", on(cmdMail, packet(ansAccept)), Tempfail, 0, "OCHMA", "OCHMRRTLLLLNBE"},
		{"refusal is for all", on(cmdMail, packet(ansReject)), Tempfail, 550, "OCHMA", ""},
		{"refusal of a message ends the other's", on(cmdEnd, packet(ansReject)), Tempfail, 550, "OCHMRRTLLLLNBE", "OCHMRRA"},
		{"discard is for all", on(cmdRcpt, packet(ansDiscard)), Tempfail, -1, "OCHMRA", "OCHMA"},
		{"dead one is done without", on(cmdHelo, packet('?')), Accept, 0, "OCH", "OCHMRRTLLLLNBE"},
		{"dead one is missed", on(cmdEnd, packet('?')), Tempfail, 451, "OCHMRRTLLLLNBE", "OCHMRRA"},
	} {
		inBubble(t, tc.name, func(t *testing.T) {
			first, second := newFake(tc.first), newFake(obliging)
			s := openSession(t, chainOf(func(c *Config) { c.OnFailure = tc.policy }, first, second))
			_, err := transact(t.Context(), s, newEnvelope(t, "", letter))
			code := 0
			var reply *smtp.SMTPError
			if errors.As(err, &reply) {
				code = reply.Code
			} else if errors.Is(err, smtpd.ErrDiscard) {
				code = -1
			}
			s.Close()
			synctest.Wait()
			got := fmt.Sprint(code, " ", strings.TrimSuffix(first.commands(), "Q"), " ", strings.TrimSuffix(second.commands(), "Q"))
			want := fmt.Sprint(tc.code, " ", tc.firstHears, " ", tc.secondHears)
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}
