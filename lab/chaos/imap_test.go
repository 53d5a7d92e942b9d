package chaos

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// patience is how long a client waits for an answer: longer than a front end looks for a store.
const patience = 20 * time.Second

// imapConn is a client's session. Every method bounds its wait; after an error that is no refusal the session is of no use.
type imapConn struct {
	conn net.Conn
	in   *bufio.Reader
	tags int
}

// refusal is a NO or BAD.
type refusal struct{ said string }

func (r *refusal) Error() string { return "refused: " + r.said }

// temporary says whether the operation may have been done all the same, or be done when it is asked for again.
func (r *refusal) temporary() bool {
	return strings.Contains(r.said, "[UNAVAILABLE]") || strings.Contains(r.said, "[INUSE]") || strings.Contains(r.said, "[LIMIT]")
}

// outcome gives what a client knows of a command that ended so.
func outcome(err error) (out Outcome, said string) {
	if err == nil {
		return Acknowledged, ""
	}
	if r, ok := errors.AsType[*refusal](err); ok && !r.temporary() {
		return Refused, r.said
	}
	return Unknown, err.Error()
}

// dialIMAP logs in at a front end.
func dialIMAP(from *host, address, user string, wait time.Duration) (*imapConn, error) {
	raw, err := from.dial(net.Dialer{Timeout: wait}, address)
	if err != nil {
		return nil, err
	}
	c := &imapConn{conn: tls.Client(raw, &tls.Config{InsecureSkipVerify: true})} // it is ours
	c.in = bufio.NewReader(c.conn)
	c.wait(wait)
	greeting, err := c.line()
	if err == nil && !strings.HasPrefix(greeting, "* OK") {
		err = fmt.Errorf("greeted with %q", greeting)
	}
	if err == nil {
		_, err = c.do("LOGIN %s %s", user, password)
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

func (c *imapConn) close() { c.conn.Close() }

func (c *imapConn) wait(d time.Duration) {
	_ = c.conn.SetDeadline(time.Now().Add(d)) // fails on a connection that is closed, which the next read tells
}

// reply is what came before and with a tagged OK.
type reply struct {
	untagged []string // each with its literals in place
	text     string   // of the tagged line
}

// do sends a command and reads until it is answered.
func (c *imapConn) do(format string, args ...any) (reply, error) {
	return c.send(fmt.Sprintf(format, args...), nil)
}

// send is do for a command with a literal behind it.
func (c *imapConn) send(command string, literal []byte) (r reply, err error) {
	c.wait(patience)
	c.tags++
	tag := fmt.Sprintf("a%d", c.tags)
	text := []byte(tag + " " + command)
	if literal != nil {
		text = append(fmt.Appendf(text, " {%d+}\r\n", len(literal)), literal...)
	}
	if _, err := c.conn.Write(append(text, "\r\n"...)); err != nil {
		return r, err
	}
	for {
		line, err := c.line()
		if err != nil {
			return r, err
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			r.text, ok = strings.CutPrefix(rest, "OK ")
			if !ok {
				return r, &refusal{rest}
			}
			return r, nil
		}
		r.untagged = append(r.untagged, line)
	}
}

var literalForm = regexp.MustCompile(`\{(\d+)\}$`)

// line reads one with all literals that it announces.
func (c *imapConn) line() (line string, err error) {
	for {
		part, err := c.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		line += strings.TrimSuffix(part, "\r\n")
		m := literalForm.FindStringSubmatch(part[:max(0, len(part)-2)])
		if m == nil {
			return line, nil
		}
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 64<<20 {
			return "", fmt.Errorf("a literal of %s bytes", m[1])
		}
		literal := make([]byte, n)
		if _, err := io.ReadFull(c.in, literal); err != nil {
			return "", err
		}
		line += string(literal)
	}
}

var (
	validityForm = regexp.MustCompile(`\[UIDVALIDITY (\d+)\]`)
	fetchForm    = regexp.MustCompile(`^\* \d+ FETCH \((?s:.*)\)$`)
	fetchedForm  = regexp.MustCompile(`^\* \d+ FETCH `)
	uidForm      = regexp.MustCompile(`\bUID (\d+)`)
	flagsForm    = regexp.MustCompile(`\bFLAGS \(([^)]*)\)`)
	idForm       = regexp.MustCompile(`(?i)Message-ID: (<[^>]*>)`)
	appendForm   = regexp.MustCompile(`\[APPENDUID (\d+) (\d+)\]`)
	copyForm     = regexp.MustCompile(`\[COPYUID (\d+) \d+ (\d+)\]`)
)

// selectFolder gives the folder's UIDVALIDITY.
func (c *imapConn) selectFolder(name string) (validity uint32, err error) {
	r, err := c.do("SELECT %s", name)
	if err != nil {
		return 0, err
	}
	for _, line := range r.untagged {
		if m := validityForm.FindStringSubmatch(line); m != nil {
			return number(m[1])
		}
	}
	return 0, fmt.Errorf("SELECT %s tells no UIDVALIDITY", name)
}

// listed is a message as a client sees it.
type listed struct {
	uid       uint32
	id, flags string
}

// list gives the messages of the folder that is selected from a UID on.
func (c *imapConn) list(from uint32) (all []listed, err error) {
	r, err := c.do("UID FETCH %d:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])", from)
	if err != nil {
		return nil, err
	}
	for _, line := range r.untagged {
		if !fetchForm.MatchString(line) {
			continue
		}
		uid, flags, id := uidForm.FindStringSubmatch(line), flagsForm.FindStringSubmatch(line), idForm.FindStringSubmatch(line)
		if uid == nil || flags == nil || id == nil {
			continue // flags that changed, told beside
		}
		m := listed{id: id[1], flags: shownFlags(flags[1])}
		if m.uid, err = number(uid[1]); err != nil {
			return nil, err
		}
		if m.uid >= from { // n:* is the last message even when there is none from n on
			all = append(all, m)
		}
	}
	return all, nil
}

// shownFlags gives flags as History has them: \Recent belongs to the session.
func shownFlags(text string) string {
	var names []string
	for _, f := range strings.Fields(text) {
		if f != `\Recent` {
			names = append(names, f)
		}
	}
	return JoinFlags(names)
}

// placeOf reads where a message went from APPENDUID or COPYUID.
func placeOf(form *regexp.Regexp, r reply) (at Place) {
	for _, line := range append([]string{r.text}, r.untagged...) {
		if m := form.FindStringSubmatch(line); m != nil {
			at.Validity, _ = number(m[1]) // the form has digits only
			at.UID, _ = number(m[2])
		}
	}
	return at
}
