package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	// maxAgentLine bounds what an agent says.
	maxAgentLine = 1024
	// maxWeight is the largest percentage that an agent may give.
	maxWeight = 1000
)

// ErrAgentDown says that an agent answered, and that it calls itself down.
var ErrAgentDown = errors.New("the agent calls itself down")

// agentCheck asks an agent as HAProxy's agent-check does: the agent speaks as soon as it is connected to, in one line.
// What a line does not mention stays as the line before left it.
func agentCheck(ctx context.Context, t Target, said *Advice) error {
	conn, err := t.dial(ctx, "tcp")
	if err != nil {
		return err
	}
	defer conn.Close()
	line, err := readAgent(conn)
	if err != nil {
		return cause(err, t.Config.Timeout)
	}
	next, err := parseAgent(line, *said)
	if err != nil {
		return err
	}
	*said = next
	if next.Down != "" {
		return &failure{"agent says " + next.Down, ErrAgentDown}
	}
	return nil
}

// readAgent reads to the end of the first line or of the connection.
func readAgent(r io.Reader) (string, error) {
	buf := make([]byte, maxAgentLine)
	for n := 0; ; {
		m, err := r.Read(buf[n:])
		n += m
		line, _, whole := strings.Cut(string(buf[:n]), "\n")
		switch {
		case whole, errors.Is(err, io.EOF) && n > 0:
			return strings.TrimSuffix(line, "\r"), nil
		case err != nil:
			return "", err
		case n == len(buf):
			return "", fmt.Errorf("a line of more than %d bytes", maxAgentLine)
		}
	}
}

// parseAgent gives the advice after a line that is understood. The words are those of HAProxy's configuration manual,
// section 5.2, agent-check; they are separated by spaces, tabs and commas, and what follows a # describes down, fail or
// stopped. maxconn is read and has no use here: a balancer without connections cannot count them.
func parseAgent(line string, said Advice) (Advice, error) {
	words, description, _ := strings.Cut(line, "#")
	fields := strings.FieldsFunc(words, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
	if len(fields) == 0 {
		return said, errors.New("the agent says nothing")
	}
	old := said
	for i := 0; i < len(fields); i++ {
		switch word := strings.ToLower(fields[i]); word {
		case "up":
			said.Down = ""
		case "down", "fail", "failed", "stopped":
			said.Down = word
			// without a # the rest is a description as well if it does not read as words
			if rest := strings.Join(fields[i+1:], " "); description == "" && rest != "" && !agentWord(fields[i+1]) {
				description, fields = rest, fields[:i+1]
			}
			if d := strings.TrimSpace(description); d != "" {
				said.Down += " (" + printable(d) + ")"
			}
		case "ready", "drain", "maint":
			said.Admin = Admin(word)
		default:
			weight, ok, err := agentNumber(fields[i])
			if err != nil {
				return old, err
			}
			if ok {
				said.Weight = weight
			}
		}
	}
	return said, nil
}

// agentWord says whether a word means something to us.
func agentWord(word string) bool {
	_, _, err := agentNumber(word)
	switch strings.ToLower(word) {
	case "up", "down", "fail", "failed", "stopped", "ready", "drain", "maint":
		return true
	}
	return err == nil
}

// agentNumber reads a percentage, or maxconn, which is none.
func agentNumber(word string) (weight int, isWeight bool, err error) {
	if n, ok := strings.CutPrefix(strings.ToLower(word), "maxconn:"); ok {
		if _, err := strconv.ParseUint(n, 10, 31); err == nil {
			return 0, false, nil
		}
	}
	if digits, ok := strings.CutSuffix(word, "%"); ok {
		n, err := strconv.ParseUint(digits, 10, 31)
		if err == nil && n <= maxWeight {
			return int(n), true, nil
		}
		if err == nil {
			return 0, false, fmt.Errorf("the agent's weight %d%% is more than %d%%", n, maxWeight)
		}
	}
	return 0, false, fmt.Errorf("%q is nothing that an agent says; want up, down, drain, maint, ready, stopped, fail or NN%%", word)
}
