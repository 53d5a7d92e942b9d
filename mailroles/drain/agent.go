package drain

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"anycastle/mailroles/accept"
)

const (
	// agentTime bounds one question of a balancer.
	agentTime = time.Second
	// maxAsking bounds how many are answered at a time.
	maxAsking = 32
)

// serveAgent answers agent-checks until stop is called.
func (d *Drainer) serveAgent(ctx context.Context) (stop func(), err error) {
	ln, err := d.listen(ctx, "tcp", d.cfg.AgentListen.String())
	if err != nil {
		return nil, fmt.Errorf("listen for agent-checks (agent_listen): %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var answering sync.WaitGroup
	asking := make(chan struct{}, maxAsking)
	answering.Go(func() {
		err := accept.Loop(ctx, ln, func(conn net.Conn) {
			select {
			case asking <- struct{}{}:
				answering.Go(func() {
					d.answer(conn)
					<-asking
				})
			default:
				conn.Close()
			}
		})
		if err != nil {
			d.log.Error("agent-checks are not answered any more", "err", err)
		}
	})
	return func() { cancel(); ln.Close(); answering.Wait() }, nil
}

// answer says one line. What HAProxy sends (agent-send) is read and left alone: with it unread, closing would reset what
// it is to read.
func (d *Drainer) answer(conn net.Conn) {
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(agentTime)) != nil {
		return
	}
	if _, err := io.WriteString(conn, d.line()+"\n"); err != nil {
		return
	}
	if t, ok := conn.(*net.TCPConn); ok && t.CloseWrite() == nil {
		_, _ = t.Read(make([]byte, 1024))
	}
}

// line says how the role stands in the words of HAProxy's agent-check. Each takes back what another may have said.
func (d *Drainer) line() string {
	d.mu.Lock()
	state, why, healthy := d.status.State, d.status.Why, d.svc.Healthy
	d.mu.Unlock()
	switch state {
	case Draining:
		return "up drain"
	case Stopped:
		return "up maint"
	case Starting:
		return "ready down #" + why
	}
	if err := healthy(); err != nil {
		return "ready down #" + oneLine(err.Error())
	}
	return "ready up"
}

// oneLine is text that ends no line and no description, and is not long.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == '#' {
			return ' '
		}
		return r
	}, text)
	return text[:min(len(text), 200)]
}
