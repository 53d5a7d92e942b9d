package probe

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// maxLine is the longest line that a probe reads; RFC 5321 section 4.5.3.1.5 allows 512 bytes.
	maxLine = 2048
	// maxTalk bounds what is read in one probe of a protocol made of lines.
	maxTalk = 64 << 10
)

var (
	errLongLine = fmt.Errorf("a line of more than %d bytes", maxLine)
	errTooMuch  = fmt.Errorf("more than %d bytes", maxTalk)
)

// talk is one conversation in lines. What it reads is bounded.
type talk struct {
	conn    net.Conn
	in      *bufio.Reader
	left    int // bytes that may still be read
	timeout time.Duration
}

func newTalk(conn net.Conn, timeout time.Duration) *talk {
	return &talk{conn: conn, in: bufio.NewReaderSize(conn, maxLine), left: maxTalk, timeout: timeout}
}

// line reads a line and gives it without its end. It is valid until the next read.
func (k *talk) line() ([]byte, error) {
	line, err := k.in.ReadSlice('\n')
	k.left -= len(line)
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errLongLine
	case err != nil:
		return nil, cause(err, k.timeout)
	case k.left < 0:
		return nil, errTooMuch
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

// skip reads over n bytes.
func (k *talk) skip(n int) error {
	if n > k.left {
		return errTooMuch
	}
	k.left -= n
	if _, err := k.in.Discard(n); err != nil {
		return cause(err, k.timeout)
	}
	return nil
}

func (k *talk) send(text string) error {
	if _, err := io.WriteString(k.conn, text); err != nil {
		return cause(err, k.timeout)
	}
	return nil
}

// startTLS goes on in TLS. What came before it in clear and was not asked for is refused: it would be taken for
// something that was said in TLS (RFC 3207 section 6).
func (k *talk) startTLS(config *tls.Config) error {
	if n := k.in.Buffered(); n > 0 {
		return fmt.Errorf("%d bytes in clear after the reply to STARTTLS", n)
	}
	conn, err := secured(k.conn, config, k.timeout)
	if err != nil {
		return err
	}
	k.conn = conn
	k.in.Reset(conn)
	return nil
}
