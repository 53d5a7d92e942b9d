package wire

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Kind is what a connection is for.
type Kind string

// Kinds of connections.
const (
	Raft  Kind = "raft"  // messages of the group
	Body  Kind = "body"  // bodies of messages, sent or asked for
	State Kind = "state" // how far each replica is
	Hello Kind = "hello" // questions, also between replicas of different eras
)

var kinds = []Kind{Raft, Body, State, Hello}

// ErrRefused is when the other side does not want a connection.
var ErrRefused = errors.New("wire: refused")

const (
	magic    = "anycastle-replica 1"
	maxLine  = 512 // octets of a preamble or of its answer
	maxToken = 128 // octets of a name
)

// preamble is the first line of a connection.
type preamble struct {
	LUN  string
	Kind Kind
	From string
	Era  uint64
}

func (p preamble) String() string {
	return fmt.Sprintf("%s %s %s %s %d", magic, p.LUN, p.Kind, p.From, p.Era)
}

// parsePreamble takes a line without its end.
func parsePreamble(line string) (preamble, error) {
	rest, ok := strings.CutPrefix(line, magic+" ")
	if !ok {
		return preamble{}, errors.New("parse preamble: it is none of this version")
	}
	words := strings.Split(rest, " ")
	if len(words) != 4 {
		return preamble{}, fmt.Errorf("parse preamble: %d words, not 4", len(words))
	}
	era, err := strconv.ParseUint(words[3], 10, 64)
	if err != nil {
		return preamble{}, fmt.Errorf("parse preamble: %w", err)
	}
	p := preamble{LUN: words[0], Kind: Kind(words[1]), From: words[2], Era: era}
	switch {
	case !isToken(p.LUN):
		return preamble{}, fmt.Errorf("parse preamble: %q is no name of a LUN", p.LUN)
	case !isToken(p.From):
		return preamble{}, fmt.Errorf("parse preamble: %q is no name of a member", p.From)
	case !slices.Contains(kinds, p.Kind):
		return preamble{}, fmt.Errorf("parse preamble: %q is no kind", p.Kind)
	}
	return p, nil
}

// isToken says whether a name can stand in a preamble.
func isToken(s string) bool {
	return s != "" && len(s) <= maxToken && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// parseAnswer takes the line that answers a preamble. The error is ErrRefused with the reason.
func parseAnswer(line string) error {
	if line == "ok" {
		return nil
	}
	if reason, ok := strings.CutPrefix(line, "no "); ok {
		return fmt.Errorf("%w: %q", ErrRefused, reason)
	}
	return fmt.Errorf("parse answer: %q is none", line)
}

// readLine reads up to a line feed and not an octet further: what follows belongs to the kind.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var octet [1]byte
	for len(line) < maxLine {
		if _, err := io.ReadFull(r, octet[:]); err != nil {
			if len(line) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		if octet[0] == '\n' {
			return string(line), nil
		}
		line = append(line, octet[0])
	}
	return "", fmt.Errorf("line has more than %d octets", maxLine)
}
