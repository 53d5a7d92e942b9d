package imapd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"anycastle/mailroles/link"
)

// errDetached says that the front end has taken the session away.
var errDetached = errors.New("imapd: session has moved")

// moving is a guard's part in taking its session to another replica: see package link. All but what is guarded otherwise is
// of the library's goroutine.
type moving struct {
	detach func() *state // describes the session

	// of a session that comes from another replica
	attach *state   // nil: it does not, or it is there
	tag    string   // of the command that brought it
	script []string // commands by which the library comes to where the session was
	failed error

	offered bool // the front end has said that it knows how; guarded by the guard's mu
	wanted  bool // the session is to move; guarded by the guard's mu

	// guarded by the guard's write
	told    bool // the front end has been told that
	due     bool // it is to be told at the end of the line
	replays bool // the library does what the script says, and nobody hears it
	gives   bool // the session is given away, which a passive replica may do too
}

// hold has the front end take the session away when it rests. It is false for one that does not know how.
func (g *guard) hold() bool {
	g.mu.Lock()
	if !g.offered {
		g.mu.Unlock()
		return false
	}
	g.wanted = true
	if !g.rests {
		g.mu.Unlock()
		return true
	}
	// no command begins while this is held, so nothing of an answer is on its way, but for lines in IDLE
	g.write.Lock()
	defer g.write.Unlock()
	g.mu.Unlock()
	g.tellHold()
	// a connection that is gone ends by itself
	_ = g.send()
	return true
}

// tellHold tells the front end to take the session away, as soon as no line is half written.
func (g *guard) tellHold() {
	if g.told || g.over {
		return
	}
	if g.due = g.midline; !g.due {
		g.waiting = append(g.waiting, link.HoldLine...)
		g.told = true
	}
}

// beforeLogin hands a front end's line on, or takes what it says of a session that is to move.
func (g *guard) beforeLogin() error {
	line, err := g.line(maxBefore)
	if err != nil {
		return err
	}
	c := command{text: line}
	c.parse() // the library finds what is wrong
	lit := announcement(line)
	switch {
	case lit != nil && c.name == link.AttachCommand:
		return g.takeState(c, lit)
	case lit != nil:
		return errLiteral
	case c.name == link.HoldCommand:
		g.mu.Lock()
		g.offered = true
		g.mu.Unlock()
		g.say("%s OK Session may move", c.tag)
		return nil
	}
	g.begin(c)
	g.out = append(line, "\r\n"...)
	return nil
}

// takeState reads the state of a session that comes from another replica. The answer follows when it is in place.
func (g *guard) takeState(c command, lit *announced) error {
	if lit.sync || lit.size < 0 || lit.size > link.MaxState {
		return errLiteral
	}
	text := make([]byte, lit.size)
	if _, err := io.ReadFull(g.br, text); err != nil {
		return err
	}
	rest, err := g.line(maxBefore)
	if err != nil {
		return err
	}
	st, err := parseState(text)
	if err != nil || len(rest) > 0 {
		g.say("%s BAD Not a session", c.tag)
		return nil
	}
	g.attach, g.tag = st, c.tag
	if len(st.Enabled) > 0 {
		g.script = append(g.script, "attach ENABLE "+strings.Join(st.Enabled, " "))
	}
	if st.Folder != nil {
		g.script = append(g.script, "attach "+selecting(st.Folder.ReadOnly)+" INBOX") // stands for the folder
	}
	return nil
}

func selecting(readOnly bool) string {
	if readOnly {
		return "EXAMINE"
	}
	return "SELECT"
}

// replay has the library do the next of what brings it to where the session was, and in the end says how that went.
func (g *guard) replay() error {
	g.write.Lock()
	g.replays = len(g.script) > 0
	g.write.Unlock()
	if len(g.script) > 0 {
		c := command{text: []byte(g.script[0])}
		g.script = g.script[1:]
		c.parse()
		g.begin(c)
		g.out = append(c.text, "\r\n"...)
		return nil
	}
	if g.failed != nil {
		g.say("%s NO [UNAVAILABLE] Session cannot go on", g.tag)
	} else {
		g.say("%s OK Session goes on", g.tag)
	}
	g.attach = nil
	return nil
}

// give hands the session over to the front end.
func (g *guard) give(c command) error {
	g.write.Lock()
	told := g.told
	g.write.Unlock()
	if !told {
		return refusal("BAD Unknown command")
	}
	text, err := json.Marshal(g.detach())
	if err != nil {
		return fmt.Errorf("describe session: %w", err)
	}
	if len(text) > link.MaxState {
		return refusal("NO [LIMIT] Session is too large to move")
	}
	g.say("* %s {%d}\r\n%s\r\n%s OK Session is yours", link.StateResponse, len(text), text, c.tag)
	return errDetached
}
