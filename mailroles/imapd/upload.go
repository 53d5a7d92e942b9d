package imapd

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-imap/v2"
)

// upload is the message that an APPEND brings. Its Read gives io.EOF only when all of it has come, and the command's end
// behind it.
type upload struct {
	guard *guard
	size  int64
	left  int64  // bytes that are still to come
	end   string // what must stand behind it on the line
	wait  bool   // the client waits for consent
	taken bool   // the session has asked for it
	fate  error  // once the line behind it has been read; io.EOF when all is well
}

// take gives the message of the APPEND that the library has. The client sends it once it is read.
func (g *guard) take() *upload {
	g.upload.taken = true
	return g.upload
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if u.wait {
		u.guard.say("+ Go on")
		u.wait = false
	}
	if u.left == 0 {
		return 0, u.finish()
	}
	n, err := u.guard.br.Read(p[:min(int64(len(p)), u.left)])
	u.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// finish reads the rest of the line. Other messages (MULTIAPPEND is not offered) must not be stored in part.
func (u *upload) finish() error {
	if u.fate != nil {
		return u.fate
	}
	line, err := u.guard.line(maxLine)
	if err == nil && string(bytes.TrimSuffix(line, []byte(" "))) == u.end {
		u.fate = io.EOF
		return u.fate
	}
	if err == nil {
		err = u.guard.skip(announcement(line))
	}
	switch {
	case err == nil, errors.Is(err, errLong):
		u.fate = &imap.Error{Type: imap.StatusResponseTypeBad, Text: "APPEND takes one message and nothing behind it"}
	case err == io.EOF:
		u.fate = io.ErrUnexpectedEOF
	default:
		u.fate = err
		u.guard.bye(err)
	}
	return u.fate
}

// behindUpload lets the library see the end of an APPEND, or passes over a message that nobody wanted.
func (g *guard) behindUpload() error {
	u := g.upload
	g.upload = nil
	if u.taken {
		g.out = fmt.Append(nil, u.end, "\r\n")
	}
	if u.wait || u.fate != nil { // it will not come, or has been read
		return nil
	}
	if _, err := io.CopyN(io.Discard, g.br, u.left); err != nil {
		return err
	}
	return g.skipLine()
}
