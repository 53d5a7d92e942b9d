package smtpd

import (
	"regexp"
	"sync"
	"sync/atomic"
)

const (
	// maxErrors is how many commands may be refused for good before the conversation ends; a delivered message begins anew.
	maxErrors = 20
	// maxNonsense is the same for lines that are no commands at all. The library ends without a 421 after one more.
	maxNonsense = 3
)

// wire sees the clear text of one SMTP connection as the library reads and writes it. The library's reader of DATA drops
// ".\r" at the start of a line that goes on after it, and what it gives then no longer shows that bytes are missing. Nor
// does the library count the commands that it refuses.
//
// The library has one hook for both directions (smtp.Server.Debug), so a client that speaks like a server must not be taken for
// one. The library sets the time of a write before each reply, and then the guard writes before the hook is shown what: both
// must have been, since TLS writes by itself too. Only the rest of a refused LMTP body is read while replies are written, and may
// be taken for one another then: neither matters.
type wire struct {
	tooMany func() // called when there were too many errors; nil when nobody minds
	chunk   func() // called before another command is read after a chunk of BDAT

	replying atomic.Bool // the library is about to write a reply, or has not written its last line
	written  atomic.Bool // the guard has written, and the hook has not been shown what

	mu       sync.Mutex
	line     []byte // the first of what has been written of a line of a reply
	body     bool   // DATA is being read
	tail     []byte // the last of what came before it
	cr       bool   // the last byte of the body was CR
	bareCR   bool   // the body has a CR that no LF follows
	errors   int
	nonsense int
}

// tailRoom is enough for a DATA command with a few spaces behind it, and lineRoom for what is looked for in a reply.
const tailRoom, lineRoom = 64, 64

var (
	chunkForm    = regexp.MustCompile(`^250 2\.0\.0 Continue\r\n$`)
	nonsenseForm = regexp.MustCompile(`^50(0|1 5\.5\.2 Bad command)`)
	dataForm     = regexp.MustCompile(`(?i)(^|\n)data[ \t]*\r?\n$`)
)

// Write implements io.Writer.
func (w *wire) Write(p []byte) (int, error) {
	if w.see(p, w.written.Swap(false) && w.replying.Load()) {
		w.chunk()
	}
	return len(p), nil
}

// see takes a look at what was written, or read. It is true after the reply to a chunk of BDAT that is not the last.
func (w *wire) see(p []byte, written bool) (chunk bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.body:
		for _, c := range p {
			w.bareCR = w.bareCR || w.cr && c != '\n'
			w.cr = c == '\r'
		}
	case written:
		return w.reply(p)
	default:
		w.tail = append(w.tail, p...)
		w.tail = w.tail[max(0, len(w.tail)-tailRoom):]
	}
	return false
}

// reply goes on with a line of a reply.
func (w *wire) reply(p []byte) (chunk bool) {
	w.line = append(w.line, p[:min(len(p), lineRoom-len(w.line))]...)
	if p[len(p)-1] != '\n' {
		return false
	}
	line := w.line
	w.line = nil
	if len(line) < 4 || line[3] != ' ' {
		return false
	}
	w.replying.Store(false)
	w.count(line)
	return chunkForm.Match(line)
}

// count counts the last line of a reply when it is a definite refusal.
func (w *wire) count(line []byte) {
	if line[0] != '5' {
		return
	}
	w.errors++
	if nonsenseForm.Match(line) {
		w.nonsense++
	}
	if w.tooMany != nil && (w.errors == maxErrors || w.nonsense == maxNonsense) {
		w.tooMany()
	}
}

// forgive forgets the errors so far.
func (w *wire) forgive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errors = 0
}

// begin starts to watch a body. It is false when the library has read ahead of its 354, into bytes that were not watched.
func (w *wire) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.body = dataForm.Match(w.tail)
	w.tail, w.cr, w.bareCR = nil, false, false
	return w.body
}

// end reports whether the body, or what followed it at once, had a CR alone.
func (w *wire) end() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.body = false
	return w.bareCR
}
