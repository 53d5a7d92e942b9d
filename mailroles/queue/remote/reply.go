package remote

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

const (
	// maxReplyLine is the longest line of a reply, in bytes; RFC 5321 allows 512.
	maxReplyLine = 4096
	// maxReplyLines bounds one reply.
	maxReplyLines = 100
	// maxReplyText is how much of a reply's text is kept, in bytes.
	maxReplyText = 400
)

// Reply is what a server said of a command.
type Reply struct {
	Code   int    // 250; 0: nothing was said
	Status string // enhanced status code such as 5.1.1 (RFC 3463); empty if the server gave none
	Text   string // on one line, printable
	Local  bool   // the server was not asked: it said before that it cannot
}

// Taken, Temporary and Permanent sort replies.
func (r Reply) Taken() bool { return r.Code/100 == 2 }

// Temporary says that the command may work later.
func (r Reply) Temporary() bool { return r.Code/100 == 4 }

// Permanent says that it never will.
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// String gives the reply as it came.
func (r Reply) String() string {
	return strings.TrimRight(strings.Join(strings.Fields(fmt.Sprintf("%d %s %s", r.Code, r.Status, r.Text)), " "), " ")
}

// Error implements error: for a reply that ends a conversation.
func (r Reply) Error() string { return "it answers " + r.String() }

var (
	statusForm  = regexp.MustCompile(`^([245]\.\d{1,3}\.\d{1,3})(?: |$)`)
	errNotSMTP  = errors.New("what it sends is no SMTP reply")
	errTooLong  = errors.New("its reply is too long")
	errCutReply = errors.New("it ended the connection")
)

// readReply reads a reply of one or more lines (RFC 5321 section 4.2), and gives the texts of the lines too.
func readReply(r *bufio.Reader) (Reply, []string, error) {
	var reply Reply
	var lines []string
	for {
		line, err := readLine(r)
		if err != nil {
			return Reply{}, nil, err
		}
		code, text, last, ok := splitLine(line)
		if !ok || reply.Code != 0 && code != reply.Code {
			return Reply{}, nil, errNotSMTP
		}
		if reply.Code = code; len(lines) == maxReplyLines {
			return Reply{}, nil, errTooLong
		}
		lines = append(lines, text)
		if last {
			break
		}
	}
	var texts []string
	for _, text := range lines {
		if m := statusForm.FindStringSubmatch(text); m != nil && int(m[1][0]-'0') == reply.Code/100 {
			reply.Status, text = m[1], strings.TrimPrefix(text[len(m[1]):], " ")
		}
		texts = append(texts, text)
	}
	reply.Text = clean(strings.Join(texts, " "))
	return reply, lines, nil
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", errTooLong
	case errors.Is(err, io.EOF):
		return "", errCutReply
	case err != nil:
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// splitLine takes a line such as "250-SIZE 100" apart.
func splitLine(line string) (code int, text string, last, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '9' || line[2] < '0' || line[2] > '9' {
		return 0, "", false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	switch {
	case len(line) == 3:
		return code, "", true, true
	case line[3] == ' ', line[3] == '-':
		return code, line[4:], line[3] == ' ', true
	}
	return 0, "", false, false
}

// clean makes a text fit to be shown, logged and put into a report: printable ASCII, and not too long.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxReplyText {
		text = text[:maxReplyText] + "..."
	}
	return strings.TrimSpace(text)
}
