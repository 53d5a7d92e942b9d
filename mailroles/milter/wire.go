package milter

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// Commands to a milter (SMFIC_ in libmilter's mfdef.h).
const (
	cmdOptions = 'O'
	cmdMacro   = 'D'
	cmdConnect = 'C'
	cmdHelo    = 'H'
	cmdMail    = 'M'
	cmdRcpt    = 'R'
	cmdData    = 'T'
	cmdField   = 'L'
	cmdHeadEnd = 'N'
	cmdBody    = 'B'
	cmdEnd     = 'E'
	cmdAbort   = 'A'
	cmdQuit    = 'Q'
)

// What a milter may do to a message (SMFIF_); these are offered, and no others.
const (
	mayAddFields    = 1 << 0
	mayChangeBody   = 1 << 1
	mayAddRcpt      = 1 << 2
	mayDeleteRcpt   = 1 << 3
	mayChangeFields = 1 << 4
	mayQuarantine   = 1 << 5
	mayChangeFrom   = 1 << 6
	offeredActions  = mayAddFields | mayChangeBody | mayAddRcpt | mayDeleteRcpt | mayChangeFields | mayQuarantine | mayChangeFrom
)

// How a milter wants to be spoken to (SMFIP_): what it does not want to hear, and what it does not answer.
const (
	noConnect    = 1 << 0
	noHelo       = 1 << 1
	noMail       = 1 << 2
	noRcpt       = 1 << 3
	noBody       = 1 << 4
	noFields     = 1 << 5
	noHeadEnd    = 1 << 6
	muteField    = 1 << 7
	noUnknown    = 1 << 8
	noData       = 1 << 9
	maySkip      = 1 << 10
	muteConnect  = 1 << 12
	muteHelo     = 1 << 13
	muteMail     = 1 << 14
	muteRcpt     = 1 << 15
	muteData     = 1 << 16
	muteUnknown  = 1 << 17
	muteHeadEnd  = 1 << 18
	muteBody     = 1 << 19
	leadingSpace = 1 << 20

	spares       = noConnect | noHelo | noMail | noRcpt | noBody | noFields | noHeadEnd | noUnknown | noData
	mutes        = muteField | muteConnect | muteHelo | muteMail | muteRcpt | muteData | muteUnknown | muteHeadEnd | muteBody
	offeredFlags = spares | mutes | maySkip | leadingSpace
)

// Versions of the protocol.
const (
	oldestVersion = 2
	dataVersion   = 4 // older ones do not know cmdData
	protoVersion  = 6
)

// Bounds of what is sent and read, and for how long.
const (
	maxChunk       = 65535     // bytes of body in a packet; libmilter takes no longer packet
	maxPacket      = 256 << 10 // bytes of an answer, other than of a new body
	optionsLength  = 12
	connectingTime = 5 * time.Second
	farewellTime   = time.Second
	idleGlance     = time.Millisecond
)

// errGarbage is for a peer that does not speak the protocol.
var errGarbage = errors.New("does not speak the milter protocol")

// wire is a connection to a milter. A packet is a length in 4 bytes, big-endian, then a code and data of that length.
type wire struct {
	net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	version uint32
	flags   uint32 // SMFIP_ flags that the milter asked for
}

// dialFunc is net.Dialer's DialContext.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// open connects to a milter and agrees on options. On an error nothing is left open.
func open(ctx context.Context, dial dialFunc, network, addr string) (*wire, error) {
	dialCtx, cancel := context.WithTimeout(ctx, connectingTime)
	defer cancel()
	conn, err := dial(dialCtx, network, addr)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, r: bufio.NewReader(conn), w: bufio.NewWriter(conn)}
	defer w.bind(ctx)()
	if err := w.negotiate(); err != nil {
		return nil, errors.Join(fmt.Errorf("negotiate: %w", err), conn.Close())
	}
	return w, nil
}

// bind ends what is read and written with ctx, until it is released.
func (w *wire) bind(ctx context.Context) (release func()) {
	if deadline, ok := ctx.Deadline(); ok {
		// an error means that the connection is closed; the next use shows it
		_ = w.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { w.Close() })
	return func() { stop() }
}

// idle says whether the milter still waits between two transactions: it has neither closed nor said anything. A milter
// that answers only at a message's end would not be missed before that.
func (w *wire) idle() bool {
	if w.SetReadDeadline(time.Now().Add(idleGlance)) != nil {
		return false
	}
	_, err := w.r.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func (w *wire) negotiate() error {
	offer := binary.BigEndian.AppendUint32(nil, protoVersion)
	offer = binary.BigEndian.AppendUint32(offer, offeredActions)
	offer = binary.BigEndian.AppendUint32(offer, offeredFlags)
	if err := w.send(cmdOptions, offer); err != nil {
		return err
	}
	code, data, err := w.answer()
	if err != nil {
		return err
	}
	if code != cmdOptions || len(data) < optionsLength {
		return fmt.Errorf("%w: answer %q of %d bytes to the options", errGarbage, code, len(data))
	}
	w.version = binary.BigEndian.Uint32(data)
	actions := binary.BigEndian.Uint32(data[4:])
	w.flags = binary.BigEndian.Uint32(data[8:])
	switch {
	case w.version < oldestVersion || w.version > protoVersion:
		return fmt.Errorf("milter speaks version %d, not one from %d to %d", w.version, oldestVersion, protoVersion)
	case actions&^offeredActions != 0:
		return fmt.Errorf("milter wants to do what was not offered (actions %#x)", actions&^offeredActions)
	case w.flags&^offeredFlags != 0:
		return fmt.Errorf("milter wants steps that were not offered (flags %#x)", w.flags&^offeredFlags)
	}
	return nil
}

// wants says whether the milter has not asked to be spared.
func (w *wire) wants(flag uint32) bool { return w.flags&flag == 0 }

// send writes a packet; it may stay in the buffer until the next answer is read.
func (w *wire) send(code byte, data []byte) error {
	var head [5]byte
	binary.BigEndian.PutUint32(head[:], uint32(1+len(data)))
	head[4] = code
	if _, err := w.w.Write(head[:]); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if _, err := w.w.Write(data); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// ask makes ready for an answer: all questions are on their way, and nothing was said before them. An answer ahead of its
// question would be taken for that to the next one.
func (w *wire) ask() error {
	if n := w.r.Buffered(); n > 0 {
		return fmt.Errorf("%w: %d bytes that nobody asked for", errGarbage, n)
	}
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// answer waits for the answer to what was sent.
func (w *wire) answer() (code byte, data []byte, err error) {
	if err := w.ask(); err != nil {
		return 0, nil, err
	}
	for {
		code, n, err := w.next()
		if err != nil {
			return 0, nil, err
		}
		if data, err = w.read(n); err != nil {
			return 0, nil, err
		}
		if code != ansProgress {
			return code, data, nil
		}
	}
}

// next reads a packet up to its code, and gives the length of the data that follows.
func (w *wire) next() (code byte, length int64, err error) {
	var head [5]byte
	if _, err := io.ReadFull(w.r, head[:4]); err != nil {
		return 0, 0, fmt.Errorf("read: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 {
		return 0, 0, fmt.Errorf("%w: packet without a code", errGarbage)
	}
	if _, err := io.ReadFull(w.r, head[4:]); err != nil {
		return 0, 0, fmt.Errorf("read: %w", err)
	}
	return head[4], int64(n) - 1, nil
}

// read reads the data of a packet that is no new body.
func (w *wire) read(n int64) ([]byte, error) {
	if n > maxPacket {
		return nil, fmt.Errorf("%w: packet of %d bytes", errGarbage, n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(w.r, data); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return data, nil
}

// abort ends a message that the milter has seen a part of.
func (w *wire) abort() error {
	if err := w.SetDeadline(time.Now().Add(farewellTime)); err != nil {
		return err
	}
	if err := w.send(cmdAbort, nil); err != nil {
		return err
	}
	return w.w.Flush()
}

// leave says good-bye and closes.
func (w *wire) leave() error {
	// a milter that cannot be told sees the connection close
	if w.SetDeadline(time.Now().Add(farewellTime)) == nil && w.send(cmdQuit, nil) == nil {
		_ = w.w.Flush()
	}
	return w.Close()
}

// strings0 joins strings as C has them. A NUL within one becomes a space, so that what follows it is seen.
func strings0(list ...string) []byte {
	var b []byte
	for _, s := range list {
		b = append(b, strings.ReplaceAll(s, "\x00", " ")...)
		b = append(b, 0)
	}
	return b
}

// cut0 takes the first of such strings off; the last one may lack its NUL.
func cut0(data []byte) (s string, rest []byte) {
	for i, c := range data {
		if c == 0 {
			return string(data[:i]), data[i+1:]
		}
	}
	return string(data), nil
}
