package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// maxReason is how many characters the reason of a failed probe has at most.
const maxReason = 200

// failure is the reason of a failed probe as people read it, around the error that it was made of.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// failed makes err the reason that is reported: nothing that came from the network is in it unescaped, and it is short.
// Every error of a probe comes by here.
func failed(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if clean := printable(text); clean != text {
		return &failure{text: clean, cause: err}
	}
	return err
}

// printable escapes what is no printable ASCII character and cuts what is too long. The backslash is left alone where
// it stands for itself; a reader who has to know looks at the packets.
func printable(s string) string {
	if len(s) <= maxReason && !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if b.Len() > maxReason {
			break
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unprintable(r):
			b.WriteRune(r)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	if b.Len() <= maxReason {
		return b.String()
	}
	return b.String()[:maxReason-3] + "..."
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }

// timeoutError is a probe that had no result in time.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string        { return fmt.Sprintf("no answer within %v", e.after) }
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// cause says what an error of a socket means for a target that was given so long: without the operation and the
// addresses that net.OpError repeats, and with a timeout and an early end in words.
func cause(err error, timeout time.Duration) error {
	var op *net.OpError
	var path *fs.PathError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return timeoutError{timeout}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &failure{"closed early", err}
	case errors.As(err, &op):
		return op.Err
	case errors.As(err, &path):
		return path.Err
	}
	return err
}

// ours says whether an error is this machine's want of something and so says nothing about the target.
func ours(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EAGAIN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
