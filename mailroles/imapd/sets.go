package imapd

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"anycastle/mailroles/store"
)

// numbers gives the indexes of the messages that a client's set names, in order. "*" is the last message, also in a
// range that begins behind it (RFC 9051 section 9, seq-range).
func (v *view) numbers(set imap.NumSet) []int {
	var indexes []int
	n := len(v.messages)
	add := func(from, to int) { // the messages from up to, but not to
		if k := len(indexes); k > 0 {
			from = max(from, indexes[k-1]+1)
		}
		for i := max(from, 0); i < min(to, n); i++ {
			indexes = append(indexes, i)
		}
	}
	open := false
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			if open = r.Stop == 0; !open {
				add(int(r.Start)-1, int(r.Stop))
			} else if r.Start > 0 {
				add(int(r.Start)-1, n)
			}
		}
	case imap.UIDSet:
		for _, r := range set {
			if open = r.Stop == 0; !open {
				add(v.above(uint32(r.Start)-1), v.above(uint32(r.Stop)))
			} else if r.Start > 0 {
				add(v.above(uint32(r.Start)-1), n)
			}
		}
	}
	if open {
		add(n-1, n)
	}
	return indexes
}

// above gives the index of the first message with a higher UID.
func (v *view) above(uid uint32) int {
	return sort.Search(len(v.messages), func(i int) bool { return v.messages[i].UID > uid })
}

// find gives a message's index, or where it would be.
func find(messages []*store.Message, uid uint32) (int, bool) {
	return slices.BinarySearchFunc(messages, uid, func(m *store.Message, uid uint32) int { return cmp.Compare(m.UID, uid) })
}

// shorten takes the longest set out of a command and puts $ in its place, since the library bounds lines. A command that
// stays too long is refused.
func (g *guard) shorten(c *command) error {
	start := len(c.text) - len(c.arguments())
	kind := "UID"
	switch name, uid := strings.CutPrefix(c.name, "UID "); name {
	case "FETCH", "STORE", "COPY", "MOVE", "EXPUNGE":
		if !uid {
			kind = ""
		}
	case "SEARCH":
		at := longestSet(c.text[start:])
		if at < 0 {
			return refusal("BAD Command is too long")
		}
		start += at
	default:
		return refusal("BAD Command is too long")
	}
	end := start + setLen(c.text[start:])
	ranges, ok := parseSet(c.text[start:end])
	rest := slices.Concat(c.text[:start], []byte("$"), c.text[end:])
	if !ok || len(rest) > maxLine || strings.HasSuffix(c.name, "SEARCH") && results(rest) > 1 {
		return refusal("BAD Command is too long")
	}
	c.text = rest
	if kind == "UID" {
		g.long = uidSet(ranges)
	} else {
		g.long = seqSet(ranges)
	}
	return nil
}

// results counts how often a search asks for the result that was saved.
func results(text []byte) (n int) {
	for word := range bytes.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" ()", r) }) {
		if string(word) == "$" {
			n++
		}
	}
	return n
}

// setLen gives how many bytes at the start of text are those of a set.
func setLen(text []byte) int {
	n := bytes.IndexFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789:,*", r) })
	if n < 0 {
		return len(text)
	}
	return n
}

// longestSet finds the longest set that follows the search key UID; -1 when there is none.
func longestSet(text []byte) int {
	at, longest := -1, 0
	upper := bytes.ToUpper(text)
	for i := 0; ; {
		next := bytes.Index(upper[i:], []byte("UID "))
		if next < 0 {
			return at
		}
		i += next + len("UID ")
		if n := setLen(text[i:]); n > longest {
			at, longest = i, n
		}
	}
}

// span is a range of numbers; 0 is "*", and stands in second place.
type span struct{ start, stop uint32 }

// parseSet reads a sequence-set (RFC 9051 section 9) and sorts it.
func parseSet(text []byte) ([]span, bool) {
	var list []span
	for part := range bytes.SplitSeq(text, []byte(",")) {
		a, b, ranged := strings.Cut(string(part), ":")
		start, ok := parseNumber(a)
		stop := start
		if ok && ranged {
			stop, ok = parseNumber(b)
		}
		if !ok {
			return nil, false
		}
		if stop != 0 && stop < start || start == 0 {
			start, stop = stop, start
		}
		list = append(list, span{start, stop})
	}
	slices.SortFunc(list, func(a, b span) int { return cmp.Or(cmp.Compare(a.stop-1, b.stop-1), cmp.Compare(a.start, b.start)) })
	return list, true
}

func parseNumber(s string) (uint32, bool) {
	if s == "*" {
		return 0, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n > 0
}

func uidSet(list []span) imap.UIDSet {
	var set imap.UIDSet
	for _, r := range list {
		set.AddRange(imap.UID(r.start), imap.UID(r.stop))
	}
	return set
}

func seqSet(list []span) imap.SeqSet {
	var set imap.SeqSet
	for _, r := range list {
		set.AddRange(r.start, r.stop)
	}
	return set
}
