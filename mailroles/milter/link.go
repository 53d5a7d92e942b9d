package milter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/smtpd"
)

// unknownName is the client's host name: none is looked up.
const unknownName = "unknown"

// errOurs is for a message that cannot be read, or its new body not kept, which is not the milter's fault.
var errOurs = errors.New("message cannot be kept")

// state is where a milter is with the present transaction.
type state int

const (
	stateIdle state = iota // no transaction
	stateOpen              // it has heard MAIL, or will
	stateOver              // it has had its say, or is out of it
)

// link is one milter in one session.
type link struct {
	*filter
	conn    *wire // nil for none
	helo    string
	state   state
	heard   bool                  // the milter has a part of a message that it has given no verdict on
	stage   string                // what it is asked now
	failed  error                 // the reply to the rest of the transaction, after a failure
	passed  bool                  // the client may do what it likes, for this session
	refused *smtp.SMTPError       // the client is refused, for this session
	macros  func(c byte) []string // of the present step
}

// begin makes ready for a transaction.
func (l *link) begin() {
	l.state, l.failed, l.heard = stateOpen, nil, false
	if l.passed {
		l.state = stateOver
	}
}

// mail names the sender, and before that the client if the milter has not heard of it. A milter may have gone away since
// the transaction before, and come back: it is then connected to once more.
func (l *link) mail(ctx context.Context, s *session, env *smtpd.Envelope) (answer, error) {
	if l.refused != nil {
		return refuse(l.refused), nil
	}
	l.macros = func(code byte) []string { return s.macros(code, env, "") }
	if l.conn != nil && !l.conn.idle() {
		l.drop()
	}
	again := l.conn != nil
	a, err := l.tryMail(ctx, s, env)
	if err != nil && again && ctx.Err() == nil && !isLate(ctx) && !errors.Is(err, errGarbage) {
		l.log.Debug("milter has closed an idle connection", "err", err)
		l.drop()
		a, err = l.tryMail(ctx, s, env)
	}
	return a, err
}

// isLate says whether the time for an answer is over. A read may notice it before the context does.
func isLate(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

func (l *link) tryMail(ctx context.Context, s *session, env *smtpd.Envelope) (answer, error) {
	isNew := l.conn == nil
	if isNew {
		l.stage = stageConnect
		network, addr, _ := l.target()
		conn, err := open(ctx, l.dial, network, addr)
		if err != nil {
			return answer{}, err
		}
		l.conn, l.helo = conn, ""
		l.connected(1)
	}
	defer l.conn.bind(ctx)()
	if isNew {
		a, err := l.ask(stageConnect, cmdConnect, noConnect, muteConnect, connectData(s.client))
		if err != nil || a.code != ansContinue {
			return l.settle(a, err)
		}
	}
	if isNew || l.helo != env.Helo {
		if a, err := l.ask(stageHelo, cmdHelo, noHelo, muteHelo, strings0(env.Helo)); err != nil || a.code != ansContinue {
			return l.settle(a, err)
		}
		l.helo = env.Helo
	}
	l.heard = true
	return l.ask(stageMail, cmdMail, noMail, muteMail, strings0(mailArgs(env)...))
}

// settle takes a verdict on the client, which holds for its whole session.
func (l *link) settle(a answer, err error) (answer, error) {
	if err != nil {
		return a, err
	}
	if a.code == ansDiscard {
		return answer{}, fmt.Errorf("%w: discards a client", errGarbage)
	}
	l.passed, l.refused = a.code == ansAccept, a.refusal
	l.close()
	return a, nil
}

func (l *link) rcpt(ctx context.Context, s *session, to smtpd.Recipient) (answer, error) {
	defer l.conn.bind(ctx)()
	l.macros = func(code byte) []string { return s.macros(code, nil, to.Address) }
	return l.ask(stageRcpt, cmdRcpt, noRcpt, muteRcpt, strings0(asPath(to.Address)))
}

// message shows a whole message. Changes are nil unless the milter takes the message and wants some.
func (l *link) message(ctx context.Context, s *session, env *smtpd.Envelope) (answer, *changes, error) {
	l.stage = stageData
	m, err := parse(env)
	if errors.Is(err, errLargeHead) {
		return answer{}, nil, err
	}
	if err != nil {
		return answer{}, nil, fmt.Errorf("%w: %w", errOurs, err)
	}
	defer l.conn.bind(ctx)()
	defer l.time()()
	l.macros = func(code byte) []string { return s.macros(code, nil, "") }
	for _, part := range []func(*message) (answer, error){l.data, l.header, l.body} {
		if a, err := part(m); err != nil || a.code != ansContinue && a.code != ansSkip {
			return a, nil, err
		}
	}
	return l.end(m, s.chain.opt.MaxSize)
}

func (l *link) data(*message) (answer, error) {
	if l.conn.version < dataVersion {
		return goOn, nil
	}
	return l.ask(stageData, cmdData, noData, muteData, nil)
}

func (l *link) header(m *message) (answer, error) {
	for _, f := range m.fields {
		name, value := clip(f.name()), f.value()
		if l.conn.wants(leadingSpace) {
			value = strings.TrimPrefix(value, " ")
		}
		value = value[:min(len(value), maxValue)]
		if a, err := l.ask(stageHeader, cmdField, noFields, muteField, strings0(name, value)); err != nil || a.code != ansContinue {
			return a, err
		}
	}
	return l.ask(stageHeader, cmdHeadEnd, noHeadEnd, muteHeadEnd, nil)
}

func (l *link) body(m *message) (answer, error) {
	l.stage = stageBody
	if !l.conn.wants(noBody) {
		return goOn, nil
	}
	text, err := m.read(m.text)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errOurs, err)
	}
	chunk := make([]byte, maxChunk)
	for {
		n, err := io.ReadFull(text, chunk)
		if n == 0 && err == io.EOF {
			return goOn, nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return answer{}, fmt.Errorf("%w: %w", errOurs, err)
		}
		if a, err := l.ask(stageBody, cmdBody, noBody, muteBody, chunk[:n]); err != nil || a.code != ansContinue {
			return a, err
		}
	}
}

// end asks for the verdict.
func (l *link) end(m *message, maxSize int64) (answer, *changes, error) {
	l.stage = stageEnd
	if err := l.tell(cmdEnd, nil); err != nil {
		return answer{}, nil, err
	}
	a, c, err := l.conn.readOutcome(l.Name, maxSize)
	if err != nil {
		return answer{}, nil, err
	}
	l.heard = false
	if a.code != ansContinue && a.code != ansAccept {
		if c.text != nil {
			err = c.text.Close()
		}
		return a, nil, err
	}
	if c.hold != "" {
		l.count(verdictQuarantine)
	}
	c.message = m
	return answer{code: ansAccept}, c, nil
}

// tell sends a command after its macros.
func (l *link) tell(code byte, data []byte) error {
	if list := l.macros(code); len(list) > 0 && code != cmdField && code != cmdBody {
		if err := l.conn.send(cmdMacro, append([]byte{code}, strings0(list...)...)); err != nil {
			return err
		}
	}
	return l.conn.send(code, data)
}

// ask sends a command, unless the milter wants none (skip), and waits for its answer, unless it gives none (mute).
func (l *link) ask(stage string, code byte, skip, mute uint32, data []byte) (answer, error) {
	l.stage = stage
	if !l.conn.wants(skip) {
		return goOn, nil
	}
	if err := l.tell(code, data); err != nil || !l.conn.wants(mute) {
		return goOn, err
	}
	said, data, err := l.conn.answer()
	if err != nil {
		return answer{}, err
	}
	a, err := parseAnswer(said, data)
	if err == nil && a.code == ansSkip && stage != stageBody {
		err = fmt.Errorf("%w: skips at %s", errGarbage, stage)
	}
	return a, err
}

// connectData is a client as a milter is told of it. The port is not known here.
func connectData(c smtpd.Client) []byte {
	data := strings0(unknownName)
	switch {
	case c.Addr.Is4():
		data = append(data, '4')
	case c.Addr.Is6():
		data = append(data, '6')
	default:
		return append(data, 'U')
	}
	data = binary.BigEndian.AppendUint16(data, 0)
	return append(data, strings0(c.Addr.WithZone("").String())...)
}

// reset ends the transaction, and keeps the connection for the next one.
func (l *link) reset() {
	if l.conn != nil && l.heard {
		if err := l.conn.abort(); err != nil {
			l.log.Debug("milter cannot be told of an end", "err", err)
			l.drop()
		}
	}
	l.state, l.failed, l.heard = stateIdle, nil, false
}

// close takes leave of the milter.
func (l *link) close() {
	if l.conn == nil {
		return
	}
	if err := l.conn.leave(); err != nil && !errors.Is(err, net.ErrClosed) {
		l.log.Debug("leave milter", "err", err)
	}
	l.forget()
}

// drop closes the connection to a milter that is not to be spoken to any more.
func (l *link) drop() {
	if l.conn == nil {
		return
	}
	if err := l.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		l.log.Debug("close connection to milter", "err", err)
	}
	l.forget()
}

func (l *link) forget() {
	l.conn, l.heard = nil, false
	l.connected(-1)
}
