package events

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Bounds of what is kept, whatever the logs hold.
const (
	maxLine   = 64 << 10 // bytes
	maxEvents = 200_000
)

// Read gives the events of all nodes from one time up to another, from the folder with NODE.log. A folder without
// one gives none.
func Read(dir string, from, to time.Time) (*Log, error) {
	names, err := filepath.Glob(filepath.Join(escape(dir), "*.log"))
	if err != nil {
		return nil, fmt.Errorf("logs of the nodes: %w", err)
	}
	r := newReader(from, to)
	for _, name := range names {
		if err := r.file(name); err != nil {
			return nil, fmt.Errorf("logs of the nodes: %w", err)
		}
	}
	r.log.sort()
	return &r.log, nil
}

// escape keeps the name of a folder from being a pattern.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(dir)
}

// Scan gives the events of one node from its log.
func Scan(node string, log io.Reader, from, to time.Time) (*Log, error) {
	r := newReader(from, to)
	if err := r.scan(node, log); err != nil {
		return nil, fmt.Errorf("log of %s: %w", node, err)
	}
	r.log.sort()
	return &r.log, nil
}

type reader struct {
	from, to time.Time
	most     int               // events
	rules    map[string][]rule // by message
	log      Log
}

func newReader(from, to time.Time) *reader {
	r := &reader{from: from, to: to, most: maxEvents, rules: map[string][]rule{}}
	for _, one := range rules() {
		r.rules[one.msg] = append(r.rules[one.msg], one)
	}
	return r
}

func (r *reader) file(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = r.scan(strings.TrimSuffix(filepath.Base(name), ".log"), f)
	return errors.Join(err, f.Close())
}

func (r *reader) scan(node string, log io.Reader) error {
	r.log.Files++
	in := bufio.NewReaderSize(log, maxLine)
	var last time.Time // of a line that says it
	for {
		text, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			r.log.Unread++
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			text = nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if line := strings.TrimSpace(string(text)); line != "" {
			last = r.line(node, line, last)
		}
		if err != nil {
			return nil
		}
	}
}

// line takes one line, and gives the time that the log has come to.
func (r *reader) line(node, text string, last time.Time) time.Time {
	if l, ok := parseLine(text); ok {
		if e, is := meaning(r.rules, node, l); is {
			r.add(e)
		}
		return l.time
	}
	if e, ok := cry(node, text); ok && !last.IsZero() {
		e.Time = last
		r.add(e)
		return last
	}
	r.log.Unread++
	return last
}

// cry makes an event of a line without a time that a process leaves when it falls.
func cry(node, text string) (Event, bool) {
	for _, start := range []string{"panic: ", "fatal error: ", "lab: "} {
		if strings.HasPrefix(text, start) {
			label := clean(text, maxLabel)
			return Event{Node: node, Kind: Process, Text: clean(text, maxText), Label: label, Important: true}, true
		}
	}
	return Event{}, false
}

func (r *reader) add(e Event) {
	switch {
	case e.Time.Before(r.from) || !e.Time.Before(r.to):
	case len(r.log.Events) >= r.most:
		r.log.Left++
	default:
		r.log.Events = append(r.log.Events, e)
	}
}

func (l *Log) sort() {
	slices.SortStableFunc(l.Events, func(a, b Event) int { return a.Time.Compare(b.Time) })
}
