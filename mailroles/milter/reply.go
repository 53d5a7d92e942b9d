package milter

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"
)

// Answers of a milter (SMFIR_ in libmilter's mfdef.h).
const (
	ansContinue = 'c'
	ansAccept   = 'a'
	ansReject   = 'r'
	ansTempfail = 't'
	ansDiscard  = 'd'
	ansReply    = 'y'
	ansSkip     = 's'
	ansProgress = 'p'

	ansAddField    = 'h'
	ansInsertField = 'i'
	ansChangeField = 'm'
	ansNewBody     = 'b'
	ansAddRcpt     = '+'
	ansDeleteRcpt  = '-'
	ansChangeFrom  = 'e'
	ansQuarantine  = 'q'
)

// Bounds of a reply that a milter words (RFC 5321 section 4.5.3.1.5 gives a line 512 bytes).
const (
	maxReplyLine  = 480
	maxReplyLines = 32
)

// errUnavailable is the reply while a milter cannot judge.
var errUnavailable = temporary("Message cannot be checked now, try again later")

// answer is what a milter says to a command.
type answer struct {
	code    byte            // ansContinue, ansAccept, ansDiscard or ansSkip; ansReject when there is a refusal
	refusal *smtp.SMTPError // nil for none
}

var goOn = answer{code: ansContinue}

// parseAnswer reads an answer that is no change of the message.
func parseAnswer(code byte, data []byte) (answer, error) {
	switch code {
	case ansContinue, ansAccept, ansDiscard, ansSkip:
		return answer{code: code}, nil
	case ansReject:
		return refuse(&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "Refused by a filter"}), nil
	case ansTempfail:
		return refuse(temporary("A filter asks to try again later")), nil
	case ansReply:
		text, _ := cut0(data)
		reply, err := parseReply(text)
		if err != nil {
			return answer{}, err
		}
		return refuse(reply), nil
	}
	return answer{}, fmt.Errorf("%w: answer %q", errGarbage, code)
}

func temporary(text string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: text}
}

func refuse(reply *smtp.SMTPError) answer { return answer{code: ansReject, refusal: reply} }

// parseReply reads a reply that a milter has worded: one line or more, each with the same code of 4xx or 5xx and perhaps
// an enhanced code (RFC 3463), which otherwise becomes x.7.1. A milter doubles each percent sign.
func parseReply(text string) (*smtp.SMTPError, error) {
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
	if len(lines) > maxReplyLines {
		return nil, fmt.Errorf("%w: reply of %d lines", errGarbage, len(lines))
	}
	reply := &smtp.SMTPError{}
	var said []string
	for _, line := range lines {
		code, rest, ok := cutCode(line)
		if !ok || reply.Code != 0 && reply.Code != code {
			return nil, fmt.Errorf("%w: reply %q", errGarbage, text)
		}
		reply.Code = code
		enhanced, rest := cutEnhanced(rest, code/100)
		if enhanced != (smtp.EnhancedCode{}) {
			reply.EnhancedCode = enhanced
		}
		said = append(said, cleanReply(rest))
	}
	if reply.EnhancedCode == (smtp.EnhancedCode{}) {
		reply.EnhancedCode = smtp.EnhancedCode{reply.Code / 100, 7, 1}
	}
	if reply.Message = strings.Join(said, "\n"); reply.Message == "" {
		reply.Message = "Refused by a filter"
	}
	return reply, nil
}

// cutCode takes the code of a refusal off a line, and the sign behind it.
func cutCode(line string) (code int, rest string, ok bool) {
	n, err := strconv.ParseUint(line[:min(3, len(line))], 10, 16)
	if err != nil || n < 400 || n > 599 {
		return 0, "", false
	}
	if line = line[3:]; line == "" {
		return int(n), "", true
	}
	return int(n), line[1:], line[0] == ' ' || line[0] == '-'
}

// cutEnhanced takes an enhanced code of the class off a line. One of another class is dropped.
func cutEnhanced(line string, class int) (smtp.EnhancedCode, string) {
	first, rest, _ := strings.Cut(line, " ")
	parts := strings.Split(first, ".")
	if len(parts) != 3 {
		return smtp.EnhancedCode{}, line
	}
	var code smtp.EnhancedCode
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n > 999 {
			return smtp.EnhancedCode{}, line
		}
		code[i] = int(n)
	}
	if code[0] != class {
		return smtp.EnhancedCode{}, rest
	}
	return code, rest
}

// cleanReply keeps the text of a reply within its line.
func cleanReply(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.ReplaceAll(s, "%%", "%"))
	return s[:min(len(s), maxReplyLine)]
}
