package watch

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxTail bounds what is read of a log at a time, in bytes: of one that grows faster the older part is passed over.
const maxTail = 32 << 10

// tail reads what is added to a file.
type tail struct {
	path string
	at   int64
	rest []byte // of a line whose end has not been written yet
}

// read gives the whole lines that have come since the last call. A file that is not there, or that was begun anew, is
// no error: what is there next time is read then.
func (t *tail) read() []string {
	f, err := os.Open(t.path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	if info.Size() < t.at {
		t.at, t.rest = 0, nil
	}
	skipped := info.Size()-t.at > maxTail
	if skipped {
		t.at, t.rest = info.Size()-maxTail, nil
	}
	text, err := io.ReadAll(io.NewSectionReader(f, t.at, info.Size()-t.at))
	if err != nil {
		return nil
	}
	t.at += int64(len(text))
	text = append(t.rest, text...)
	if skipped { // it begins in the middle of a line
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	end := bytes.LastIndexByte(text, '\n') + 1
	t.rest = bytes.Clone(text[end:])
	if len(t.rest) > maxTail {
		t.rest = nil
	}
	var lines []string
	for line := range strings.Lines(string(text[:end])) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}

// parseEvent reads a line as log/slog's text handler writes it. Anything else, and what is only for those who look for
// a fault in the program, is no event.
func parseEvent(line string) (Event, bool) {
	var e Event
	var text []string
	message := false
	for rest := line; rest != ""; {
		var key, value string
		var ok bool
		if key, value, rest, ok = nextPair(rest); !ok {
			return Event{}, false
		}
		switch {
		case key == "time" && e.At.IsZero():
			at, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				return Event{}, false
			}
			e.At = at
		case key == "level" && e.Level == "":
			e.Level = value
		case key == "msg" && !message:
			message = true
			text = append([]string{value}, text...)
		case key == "role" && e.Role == "":
			e.Role = value
		case value != "":
			text = append(text, key+"="+value)
		}
	}
	e.Text = strings.Join(text, " ")
	return e, message && !e.At.IsZero() && e.Level != "" && e.Level != "DEBUG"
}

// nextPair cuts `key=value` or `key="value"` off a line.
func nextPair(line string) (key, value, rest string, ok bool) {
	key, rest, ok = strings.Cut(line, "=")
	if !ok || key == "" || strings.ContainsAny(key, " \"") {
		return "", "", "", false
	}
	if !strings.HasPrefix(rest, `"`) {
		value, rest, _ = strings.Cut(rest, " ")
		return key, value, rest, true
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return "", "", "", false
	}
	value, err = strconv.Unquote(quoted)
	if err != nil {
		return "", "", "", false
	}
	return key, value, strings.TrimPrefix(rest[len(quoted):], " "), true
}
