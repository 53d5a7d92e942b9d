package bodies

import (
	"context"
	"testing"
	"time"

	"anycastle/mailroles/replica/wire"
)

// A peer whose disk hangs in the middle of a body is alive, and says so. Whoever takes the body must not wait for it for ever, as
// the store is in use meanwhile.
func TestBodyThatDoesNotGoOnIsGivenUp(t *testing.T) {
	list := newReplicas(t, "east", "west")
	list[1].run(NewReceiver(list[1].opt, nil).Run)
	b := bodyOf("large", content(maxSmall+1, 1))
	conn, err := list[0].Dial(t.Context(), wire.Body, list[1].opt.Self.Name)
	if err != nil {
		t.Fatal(err)
	}
	s := newStream(conn, list[0].opt.Times)
	began := time.Now()
	err = s.run(t.Context(), s.tick, func(ctx context.Context) error {
		if err := s.send(frameBody, b, true); err != nil {
			return err
		}
		_, _, err := s.read() // ticks only, until the other side has had enough
		return err
	})
	if err == nil {
		t.Error("the connection ended without an error")
	}
	if took, most := time.Since(began), 3*patience*list[1].opt.Times.Timeout; took > most {
		t.Errorf("given up after %v, want at most %v", took, most)
	}
}
