package smtpd

import (
	"bytes"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// talk is a client that says what the fuzzer wants, and reads all that the server says.
type talk struct {
	t    *testing.T
	conn net.Conn
	said bytes.Buffer

	mu    sync.Mutex
	heard bytes.Buffer
	taken int // of heard
}

func newTalk(t *testing.T, s testServer) *talk {
	near, far := net.Pipe()
	k := &talk{t: t, conn: near}
	g := s.guard(far)
	s.open.Go(func() { s.serve(t.Context(), g) })
	s.open.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := near.Read(buf)
			k.mu.Lock()
			k.heard.Write(buf[:n])
			k.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return k
}

// say sends text, and waits until the server has done all that it can. It is false when the server has gone.
func (k *talk) say(text string) bool {
	k.said.WriteString(text)
	_, err := io.WriteString(k.conn, text)
	synctest.Wait()
	return err == nil
}

// A reply may repeat a CR of the command's.
var replyLine = regexp.MustCompile(`^[2-5][0-9]{2}[ -][^\n]*\r\n`)

// replies gives the codes of the replies since it was last called, and fails the test for anything that is none.
func (k *talk) replies() (codes []int) {
	k.mu.Lock()
	rest := k.heard.Bytes()[k.taken:]
	k.taken = k.heard.Len()
	k.mu.Unlock()
	for len(rest) > 0 {
		line := replyLine.Find(rest)
		if line == nil {
			k.t.Fatalf("the server says %q", rest)
		}
		if line[3] == ' ' {
			code, _ := strconv.Atoi(string(line[:3]))
			codes = append(codes, code)
		}
		rest = rest[len(line):]
	}
	return codes
}

// lockstep is a conversation in which each line waits for the reply to the one before.
type lockstep struct {
	*talk
	lmtp  bool
	taken int  // recipients of the transaction
	data  bool // within DATA
	early int  // replies within DATA: on LMTP a refusal may come before the body's end
}

// chunk gives the size of a BDAT command that is followed by a chunk.
func chunk(line string) (size int, last, ok bool) {
	words := strings.Fields(line)
	if len(line) < 6 || !strings.EqualFold(line[:5], "BDAT ") || len(words) < 2 || len(words) > 3 {
		return 0, false, false
	}
	if last = len(words) == 3; last && !strings.EqualFold(words[2], "LAST") {
		return 0, false, false
	}
	n, err := strconv.ParseUint(words[1], 10, 32)
	return int(n), last, err == nil
}

// step says one line, with its chunk when it has one, and holds the replies against what is due. It gives the rest of the
// text, and is false when the conversation has ended.
func (s *lockstep) step(text string) (rest string, ok bool) {
	line, rest, _ := strings.Cut(text, "\n")
	line = strings.TrimRight(line, "\r")
	least, most := 1, 1
	full := line + "\r\n"
	size, last, chunked := chunk(line)
	switch {
	case s.data && line != ".":
		least, most = 0, 0
		if s.lmtp {
			most = s.taken - s.early
		}
	case s.data:
		s.data = false
		if s.lmtp {
			least, most = s.taken-s.early, s.taken-s.early
		}
		s.taken, s.early = 0, 0
	case chunked:
		if size > len(rest) {
			s.say(full + rest)
			return "", false // cut off
		}
		full, rest = full+rest[:size], rest[size:]
		if s.lmtp && last && s.taken > 1 {
			most = s.taken // or one for all when the message was refused before its end
		}
		if last {
			s.taken = 0
		}
	}
	ok = s.say(full)
	codes := s.replies()
	if n := len(codes); n > 0 && codes[n-1] == 421 || n > 1 && codes[n-1] == 500 || !ok {
		return "", false
	}
	if len(codes) < least || len(codes) > most {
		s.t.Fatalf("%d replies to %q, want %d to %d; the server said %q", len(codes), full, least, most, s.heard.String())
	}
	if s.data {
		s.early += len(codes)
	} else if least == 1 {
		s.follow(strings.ToUpper(line), codes[0], chunked)
	}
	return rest, codes == nil || codes[0] != 221
}

// follow keeps count of the transaction.
func (s *lockstep) follow(line string, code int, chunked bool) {
	switch {
	case code == 354:
		s.data = true
	case strings.HasPrefix(line, "RCPT") && code == 250:
		s.taken++
	case chunked && code/100 != 2, strings.HasPrefix(line, "RSET"), strings.HasPrefix(line, "MAIL") && code == 250,
		code == 250 && (strings.HasPrefix(line, "EHLO") || strings.HasPrefix(line, "LHLO") || strings.HasPrefix(line, "HELO")):
		s.taken = 0
	}
}

var bdatLine = regexp.MustCompile(`(?i)bdat [^\n0-9]*([0-9]+)([^\n]*last)?[^\n]*\n`)

// wasEnded reports whether a body was sent whole: by DATA with its dot, or by chunks of which one was the last.
func wasEnded(said, body string) bool {
	for at := range len(said) {
		if said[at] == '\n' && wasDotted(said[at+1:], body) {
			return true
		}
	}
	return wasChunked(said, body)
}

// wasDotted reports whether text begins with the lines of a body and the final dot.
func wasDotted(text, body string) bool {
	for line := range strings.SplitAfterSeq(text, "\r\n") {
		if line == ".\r\n" {
			return body == ""
		}
		line = strings.TrimPrefix(line, ".")
		if line == "" || !strings.HasPrefix(body, line) {
			return false
		}
		body = body[len(line):]
	}
	return false
}

func wasChunked(said, body string) bool {
	for _, m := range bdatLine.FindAllStringSubmatchIndex(said, -1) {
		size, err := strconv.Atoi(said[m[2]:m[3]])
		rest := said[m[1]:]
		if err != nil || size > len(rest) || !strings.HasPrefix(body, rest[:size]) {
			continue
		}
		if m[4] >= 0 && size == len(body) {
			return true
		}
		if m[4] < 0 && wasChunked(rest[size:], body[size:]) {
			return true
		}
	}
	return false
}

// converse has a conversation with a whole server, in step or as fast as it goes.
func converse(t *testing.T, text string, lmtp, inStep bool) {
	if len(text) > 20_000 {
		return
	}
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(func(o *Options) { o.MaxSize, o.DSN = 4096, true })
		s.link = lmtp
		s.rcpt = func(to Recipient) error {
			if strings.HasPrefix(to.Address, "no") {
				return errUnknown
			}
			return nil
		}
		k := newTalk(t, s)
		defer s.open.Wait()
		defer k.conn.Close()
		synctest.Wait()
		if banner := k.replies(); len(banner) != 1 || banner[0] != 220 {
			t.Fatalf("the banner is %v", banner)
		}
		if inStep {
			c := lockstep{talk: k, lmtp: lmtp}
			for ok := true; ok && text != ""; {
				text, ok = c.step(text)
			}
		} else {
			k.say(text)
		}
		k.conn.Close()
		s.open.Wait() // or the test ends by a deadlock
		k.replies()
		got := s.all()
		for i, body := range got {
			if !wasEnded(k.said.String(), body) {
				t.Errorf("delivered %q, which was not sent whole in %q", body, k.said.String())
			}
			if len(s.envs[i].To) == 0 {
				t.Errorf("delivered %q to nobody", body)
			}
		}
		if told := strings.Count(k.heard.String(), "250 2.0.0 OK: queued"); !lmtp && told != len(got) {
			t.Errorf("%d messages were delivered, and %d times the client was told so", len(got), told)
		}
		// a command that the library reads after the end finds no session: it recovers, and nothing of ours is on the stack
		if log := s.log.String(); strings.Contains(log, "panic") && strings.Contains(log, "anycastle/mailroles/") {
			t.Errorf("the server panicked: %s", log)
		}
	})
}

// seeds are conversations with one command of each kind; HELLO is for EHLO or LHLO, START for what comes before a body.
var seeds = []string{
	"START\nRCPT TO:<b@example.org>\nDATA\nMessage-ID: <1@x>\n\n..\nbody\n.\nQUIT\n",
	"START\nRCPT TO:<no@example.org>\nRCPT TO:<b@example.org>\nBDAT 6\nhello\nBDAT 7 LAST\nworld!\nNOOP\n",
	"START\r\nBDAT 8 LAST\r\nhello!\r\nMAIL FROM:<y@example.org>\r\n",
	"START\r\nDATA\r\n.\r\nMAIL FROM:<y@example.org>\r\n",
	"HELLO x\nMAIL FROM:<x@example.org> SIZE=5000\nMAIL FROM:<> SIZE=10 BODY=8BITMIME RET=HDRS ENVID=q+3D1\nMAIL FROM:<y@y>\nRSET\n",
	"HELLO x\nMAIL FROM:<ü@ü> SMTPUTF8\nRCPT TO:<\"a b\"@example.org> NOTIFY=NEVER ORCPT=rfc822;a+2Bb\nDATA\n.\r.\nx\n.\n",
	"START\nBDAT 0\nRSET\nMAIL FROM:<x@example.org>\nRCPT TO:<a@example.org>\nBDAT 0 LAST\n",
	"START\nBDAT 3\na\nbBDAT 5000 LAST\n" + strings.Repeat("x", 5000),
	"VRFY a\nEXPN b\nHELP\nSTARTTLS\nAUTH PLAIN =\nNONSENSE\n\nGET / HTTP/1.0\n",
	"START\nDATA\n" + strings.Repeat("line\n", 1000) + ".\nNOOP\n",
	"START\nDATA\na\rb\n" + strings.Repeat("line\n", 1000) + ".\nNOOP\n",
	"START\nNONSENSE\nNONSENSE\nNONSENSE\nBDAT 0 LAST",
}

func fuzzConversation(f *testing.F, lmtp bool) {
	hello := "EHLO"
	if lmtp {
		hello = "LHLO"
	}
	for _, text := range seeds {
		text = strings.ReplaceAll(text, "START", "HELLO x\nMAIL FROM:<x@example.org>\nRCPT TO:<a@example.org>")
		text = strings.ReplaceAll(text, "HELLO", hello)
		f.Add(text, true)
		f.Add(text, false)
		f.Add(strings.ReplaceAll(text, "\n", "\r\n"), false)
	}
	f.Fuzz(func(t *testing.T, text string, inStep bool) { converse(t, text, lmtp, inStep) })
}

func FuzzSMTP(f *testing.F) { fuzzConversation(f, false) }

func FuzzLMTP(f *testing.F) { fuzzConversation(f, true) }

func TestEndOfAMessageIsKnown(t *testing.T) {
	for _, tc := range []struct {
		said, body string
		want       bool
	}{
		{"DATA\r\na\r\n..b\r\n.\r\n", "a\r\n.b\r\n", true},
		{"DATA\r\na\r\n..b\r\n", "a\r\n.b\r\n", false},
		{"DATA\r\n.\r\n", "", true},
		{"BDAT 2\r\nabbdat 3 last\r\ncde", "abcde", true},
		{"BDAT 2\r\nabBDAT 3\r\ncde", "abcde", false},
		{"BDAT 6 LAST\r\nabcde", "abcde", false},
	} {
		if got := wasEnded(tc.said, tc.body); got != tc.want {
			t.Errorf("%q ended in %q: %v, want %v", tc.body, tc.said, got, tc.want)
		}
	}
}
