package queue

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// Keeper keeps the messages of a queue durably: on one machine, as Options.Dir alone does, or on several. It knows an
// entry by its id, and its envelope as a text that means nothing to it. It is safe for concurrent use; calls about one
// entry come one after another, but for OpenBody and Prove.
type Keeper interface {
	// Load tells of all that is kept, before anything else is asked for. entry gets each envelope, and the size of its
	// body, -1 when there is none; an error of it says that they are of no use, so they are put aside. It may be called
	// concurrently. done gets the envelopes of entries that are done, and since when, one after another; it says whether
	// that is still to be kept. aside counts what is of no use.
	Load(entry func(id string, text []byte, body int64) error, done func(id string, text []byte, since time.Time) (keep bool)) (aside int, err error)
	// PutBody writes the body of an entry that is to be added. On an error nothing of it stays.
	PutBody(id string, body io.Reader) error
	// Add makes an entry, whose body PutBody wrote. kept says that it is in the queue, also beside an error: then the
	// message may not be acknowledged, though it is going to be sent. Nothing stays of one that is not kept, unless the
	// keeper cannot know: what it finds of it then, the next Load tells.
	Add(id string, text []byte, sum string, size int64) (kept bool, err error)
	// Drop removes a body whose entry is not going to be added.
	Drop(id string) error
	// Change replaces an envelope.
	Change(id string, text []byte) error
	// Finish ends an entry: its body goes. remember keeps the envelope, as one that is done. What failed half way goes on
	// where it ended when it is asked for again.
	Finish(id string, remember bool) error
	// Sync waits until what Finish did cannot be undone any more.
	Sync() error
	// Forget removes envelopes of entries that are done.
	Forget(ids ...string) error
	// SetAside puts an entry away, for a person to look at.
	SetAside(id string, why error) error
	// OpenBody opens the body of an entry, which has a size.
	OpenBody(ctx context.Context, id string, size int64) (*os.File, error)
	// Prove returns nil when entries that are kept, or were, may be acknowledged.
	Prove(ids ...string) error
	// Serving is nil while this process may send what is in the queue. It is cheap.
	Serving() error
}

// errPassive is why an attempt is given up: another process has the queue, or is about to.
var errPassive = errors.New("queue: not ours to send")

// guarded is a body that cannot be read to its end by who may not send it any more.
type guarded struct {
	io.Reader
	serving func() error
}

// Read implements io.Reader.
func (g guarded) Read(p []byte) (int, error) {
	if err := g.serving(); err != nil { // also before the end, so that the message is never ended
		return 0, errors.Join(errPassive, err)
	}
	return g.Reader.Read(p)
}
