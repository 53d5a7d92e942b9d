package bodies

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A frame is its kind, the length of what it holds in four octets, and that.
const (
	frameTick     = 't' // nothing; whoever sends it is alive
	frameBody     = 'b' // Body: its content follows as data
	frameData     = 'd' // some octets
	frameEnd      = 'e' // the data is complete; JSON result of an answer, or nothing
	frameAbort    = 'x' // the data will not be completed; reason
	frameAck      = 'a' // Body: it is on the disk of who says so
	frameNo       = 'n' // refusal
	frameGet      = 'g' // Body: it is wanted
	frameState    = 's' // told
	frameQuestion = 'q' // question
)

const (
	headSize = 5
	maxFrame = 64 << 10 // octets that a frame holds
	maxChunk = 32 << 10 // octets of data in a frame that is sent
)

var errProtocol = errors.New("bodies: the peer does not speak the protocol")

// refusal says why a body is not taken, or not given.
type refusal struct {
	Body Body   `json:"body"`
	Why  string `json:"why,omitempty"`
	Gone bool   `json:"gone,omitempty"` // for certain it is not there
}

// question is one to a desk.
type question struct {
	Question string          `json:"question"`
	Arg      json.RawMessage `json:"arg,omitempty"`
}

// told is a state on its way.
type told struct {
	State State `json:"state"`
	At    int64 `json:"at"`   // when it was sent, by a clock of the sender
	Echo  int64 `json:"echo"` // At of the last that came from the other side; 0: none
}

// readFrame reads one frame into buf, or into a larger one if it does not fit.
func readFrame(r *bufio.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("%w: frame of %d octets", errProtocol, size)
	}
	if int(size) > cap(buf) {
		buf = make([]byte, size)
	}
	payload = buf[:size]
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("read frame: %w", noEOF(err))
	}
	return head[0], payload, nil
}

// noEOF makes an end within something an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// writeFrame writes one frame.
func writeFrame(w *bufio.Writer, kind byte, payload []byte) error {
	if len(payload) > maxFrame {
		return fmt.Errorf("write frame: %d octets are too many", len(payload))
	}
	head := [headSize]byte{kind}
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	w.Write(head[:]) // the error stays with the writer
	_, err := w.Write(payload)
	return err
}

// parse takes the JSON of a frame.
func parse[T any](payload []byte) (T, error) {
	var v T
	if err := json.Unmarshal(payload, &v); err != nil {
		return v, fmt.Errorf("%w: %v", errProtocol, err)
	}
	return v, nil
}

// parseBody takes the Body of a frame. What it gives names a mailbox and a file, and nothing elsewhere.
func parseBody(payload []byte) (Body, error) {
	b, err := parse[Body](payload)
	switch {
	case err != nil:
		return b, err
	case b.Mailbox != "" && !isName(b.Mailbox), !isName(b.Name): // without mailbox: of the queue
		return b, fmt.Errorf("%w: body %q of mailbox %q", errProtocol, b.Name, b.Mailbox)
	case !isSum(b.Sum):
		return b, fmt.Errorf("%w: body %s has sum %q", errProtocol, b.Name, b.Sum)
	case b.Size < 0:
		return b, fmt.Errorf("%w: body %s has %d octets", errProtocol, b.Name, b.Size)
	}
	return b, nil
}

// isName says whether a name can be that of a file within a directory, and not of a hidden one.
func isName(s string) bool {
	return s != "" && s[0] != '.' && len(s) <= 255 && !strings.ContainsAny(s, "/\x00")
}

func isSum(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
