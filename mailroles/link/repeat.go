package link

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	// retryTime is for how long a server that cannot be reached, or is not the active store now, is tried again.
	retryTime = 8 * time.Second
	// What a try has when another may follow: the first commands on a connection that was idle, those on a new one, and the
	// replies to a message. A store that hangs has lost its LUN to another by then, and one that is slow gets what it was to
	// do no more than twice: more tries would make it slower.
	probeTime = 2 * time.Second
	quickTime = 4 * time.Second
	replyTime = 4 * time.Second
	// firstPause is between the first two tries; each pause is twice the one before, up to maxPause, or to bodyPause when the
	// message has been sent and written for nothing.
	firstPause = 50 * time.Millisecond
	maxPause   = 200 * time.Millisecond
	bodyPause  = 1600 * time.Millisecond
)

// turn says which of several tries one is.
type turn struct {
	again bool // it is not the first: connections that were idle are of no use
	last  bool // no other may follow, so that a slow server gets all the time that there is
}

// attempt tries once. sent says that those of the results that tell nothing are of a message that may have arrived.
type attempt func(to []Recipient, t turn) (results []error, sent bool)

// repeat tries until each recipient has a result that would be the same the next time, or retryTime is over. A message is
// sent again with its transaction id, so whoever has it knows it.
func (p *Pool) repeat(ctx context.Context, to []Recipient, try attempt) []error {
	results := make([]error, len(to))
	unsure := make([]bool, len(to)) // may have it from a try that told nothing
	open := make([]int, len(to))
	for i := range open {
		open[i] = i
	}
	begun := time.Now()
	for pause, t := firstPause, (turn{}); ; pause, t.again = 2*pause, true {
		some := make([]Recipient, len(open))
		for k, i := range open {
			some[k] = to[i]
		}
		t.last = time.Since(begun) >= p.retryTime-replyTime
		got, sent := try(some, t)
		var left []int
		for k, i := range open {
			results[i] = got[k]
			switch {
			case passes(got[k]):
				left = append(left, i)
				unsure[i] = unsure[i] || sent
			case unsure[i] && got[k] != nil:
				// what is refused now may have been taken before: no refusal
				results[i] = fmt.Errorf("link: sent before with no answer, and now: %v", got[k])
			}
		}
		open = left
		if !sent {
			pause = min(pause, maxPause)
		}
		pause = min(pause, bodyPause)
		if len(open) == 0 || time.Since(begun)+pause >= p.retryTime || !rest(ctx, pause) {
			return results
		}
		p.log.Debug("tries again", "recipients", len(open), "err", results[open[0]])
	}
}

// rest waits for a pause, more or less. It is false when ctx ends.
func rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause/2 + mrand.N(pause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// passes reports whether another try may end otherwise: the connection has failed, or the server is not the active store of
// its LUN now (4.3.2, RFC 3463 section 3.4).
func passes(err error) bool {
	var refusal *smtp.SMTPError
	if errors.As(err, &refusal) {
		return refusal.Code == 421 || refusal.Code/100 == 4 && refusal.EnhancedCode == smtp.EnhancedCode{4, 3, 2}
	}
	if _, stranger := errors.AsType[*tls.CertificateVerificationError](err); stranger {
		return false
	}
	for _, ours := range []error{errBody, errNoOffer, errNoData, ErrClosed, context.Canceled} {
		if errors.Is(err, ours) {
			return false
		}
	}
	return err != nil
}

// newTx names a message that has no name, so that it can be sent again within one Deliver.
func newTx() string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// errBody is for a message that cannot be read here.
var errBody = errors.New("link: message cannot be read")

// bodyReader marks the errors of a body, which are none of the connection's.
type bodyReader struct{ io.Reader }

// Read implements io.Reader.
func (b bodyReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errBody, err)
	}
	return n, err
}
