package bodies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"anycastle/mailroles/replica/wire"
)

// maxAnswers is how many questions are answered at a time.
const maxAnswers = 32

// Answer writes the answer to a question of a member: arg is JSON, what is written to w may be of any length, and result
// is sent as JSON after it.
type Answer func(ctx context.Context, from string, arg []byte, w io.Writer) (result any, err error)

// Desk answers the questions of other members.
type Desk struct {
	opt     Options
	answers map[string]Answer
	busy    chan struct{}
}

// NewDesk makes a desk that answers the questions with the given names, and, if the options have a store, "manifest",
// "digest" and "mailboxes". Peers of the options does not matter to it.
func NewDesk(opt Options, answers map[string]Answer) *Desk {
	d := &Desk{opt: opt.complete(), answers: map[string]Answer{}, busy: make(chan struct{}, maxAnswers)}
	if opt.Store != nil {
		d.answers["manifest"] = d.manifest
		d.answers["digest"] = d.digest
		d.answers["mailboxes"] = d.mailboxes
	}
	maps.Copy(d.answers, answers)
	return d
}

// Run answers until ctx ends.
func (d *Desk) Run(ctx context.Context) error {
	return serveEach(ctx, d.opt, wire.Hello, d.serve)
}

// serve answers one question after the other on a connection.
func (d *Desk) serve(ctx context.Context, s *stream) error {
	questions := make(chan question)
	return s.run(ctx, s.tick,
		func(ctx context.Context) error {
			for {
				kind, payload, err := s.read() // the end of the connection ends the answer under way
				if err != nil {
					return err
				}
				if kind != frameQuestion {
					return fmt.Errorf("%w: frame %q for a desk", errProtocol, kind)
				}
				q, err := parse[question](payload)
				if err != nil {
					return err
				}
				select {
				case questions <- q:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		},
		func(ctx context.Context) error {
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case q := <-questions:
					if err := d.answer(ctx, s, q); err != nil {
						return err
					}
				}
			}
		},
	)
}

// answer answers one question. The error is one of the connection.
func (d *Desk) answer(ctx context.Context, s *stream, q question) error {
	f := d.answers[q.Question]
	if f == nil {
		return s.abort(fmt.Errorf("nobody here answers %q", q.Question))
	}
	select {
	case d.busy <- struct{}{}:
		defer func() { <-d.busy }()
	default:
		return s.abort(errors.New("too many questions at a time"))
	}
	result, err := f(ctx, s.peer, q.Arg, &chunks{s})
	if err != nil {
		d.opt.Log.Debug("question not answered", "peer", s.peer, "question", q.Question, "err", err)
		return s.abort(err)
	}
	text, err := json.Marshal(result)
	if err == nil && len(text) > maxFrame {
		err = fmt.Errorf("result of %d octets", len(text))
	}
	if err != nil {
		return s.abort(fmt.Errorf("tell the result of %q: %w", q.Question, err))
	}
	return s.put(frameEnd, text, true)
}

// abort tells why there is no answer.
func (s *stream) abort(why error) error {
	text := why.Error()
	return s.put(frameAbort, []byte(text[:min(len(text), 1000)]), true)
}

// chunks is a Writer of data frames.
type chunks struct{ s *stream }

func (c *chunks) Write(p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(len(p), n+maxChunk)]
		if err := c.s.put(frameData, part, false); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// ErrAnswer is when a member answered a question with an error of its own.
var ErrAnswer = errors.New("bodies: the member answered")

// Caller asks questions.
type Caller struct{ opt Options }

// NewCaller makes a caller. Store of the options does not matter to it.
func NewCaller(opt Options) *Caller { return &Caller{opt: opt.complete()} }

// Ask asks a member a question, copies what it writes to w, which may be nil, and stores its result in result, which may
// be nil. ctx should have a deadline: a member that is alive may take its time, but one that says nothing for Times.Timeout
// is given up anyhow. The error is ErrAnswer if it is the member's own.
func (c *Caller) Ask(ctx context.Context, member, name string, arg any, w io.Writer, result any) error {
	if err := c.ask(ctx, member, name, arg, w, result); err != nil {
		return fmt.Errorf("ask %s for %s: %w", member, name, err)
	}
	return nil
}

func (c *Caller) ask(ctx context.Context, member, name string, arg any, w io.Writer, result any) error {
	text, err := json.Marshal(arg)
	if err != nil {
		return err
	}
	if w == nil {
		w = io.Discard
	}
	conn, err := c.opt.Net.Dial(ctx, wire.Hello, member)
	if err != nil {
		return err
	}
	s := newStream(conn, c.opt.Times)
	var answered error = errNoAnswer
	err = s.run(ctx, s.tick, func(context.Context) error {
		if err := s.send(frameQuestion, question{Question: name, Arg: text}, true); err != nil {
			return err
		}
		answered = s.hearAnswer(w, result)
		return nil
	})
	if ctx.Err() != nil && answered != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return answered
}

var errNoAnswer = errors.New("bodies: the connection ended before an answer")

// hearAnswer copies an answer.
func (s *stream) hearAnswer(w io.Writer, result any) error {
	for {
		kind, payload, err := s.read()
		if err != nil {
			return err
		}
		switch kind {
		case frameData:
			if _, err := w.Write(payload); err != nil {
				return err
			}
		case frameAbort:
			return fmt.Errorf("%w: %q", ErrAnswer, payload)
		case frameEnd:
			if result == nil {
				return nil
			}
			if err := json.Unmarshal(payload, result); err != nil {
				return fmt.Errorf("%w: %v", errProtocol, err)
			}
			return nil
		default:
			return fmt.Errorf("%w: frame %q in an answer", errProtocol, kind)
		}
	}
}
