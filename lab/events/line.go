package events

import (
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// maxAttrs bounds what is kept of one line.
const maxAttrs = 64

// line is one line of log/slog's text handler.
type line struct {
	time  time.Time
	level slog.Level
	msg   string
	attrs map[string]string // role among them
}

// parseLine reads a line. One that was cut off, so that an attribute is not whole, is none.
func parseLine(text string) (line, bool) {
	l := line{attrs: map[string]string{}}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimLeft(text, " ") {
		var key, value string
		var ok bool
		if key, text, ok = word(text, "="); !ok || key == "" || !strings.HasPrefix(text, "=") {
			return line{}, false
		}
		if value, text, ok = word(text[1:], " "); !ok || text != "" && text[0] != ' ' {
			return line{}, false
		}
		if _, twice := l.attrs[key]; !twice && len(l.attrs) < maxAttrs {
			l.attrs[key] = value
		}
	}
	var err error
	if l.time, err = time.Parse(time.RFC3339, l.attrs[slog.TimeKey]); err != nil {
		return line{}, false
	}
	if err := l.level.UnmarshalText([]byte(l.attrs[slog.LevelKey])); err != nil {
		return line{}, false
	}
	l.msg = l.attrs[slog.MessageKey]
	for _, key := range []string{slog.TimeKey, slog.LevelKey, slog.MessageKey} {
		delete(l.attrs, key)
	}
	return l, l.msg != ""
}

// word takes one key or value off the text: in quotes, or up to the next byte of end.
func word(text, end string) (is, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		if i := strings.Index(text, end); i >= 0 {
			return text[:i], text[i:], true
		}
		return text, "", true
	}
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", "", false
	}
	if is, err = strconv.Unquote(quoted); err != nil {
		return "", "", false
	}
	return is, text[len(quoted):], true
}
