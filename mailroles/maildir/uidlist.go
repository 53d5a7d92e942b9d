package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// UIDListFile is the name of a folder's UID list.
const UIDListFile = "dovecot-uidlist"

// ErrUIDList says that a text is no UID list of version 3.
var ErrUIDList = errors.New("maildir: no UID list")

// UIDList is a folder's UID list: which file has which UID, and the next UID to give.
type UIDList struct {
	Validity uint32
	Next     uint32
	GUID     string // 32 hexadecimal digits
	Entries  []UIDEntry
}

// UIDEntry binds a UID to a file.
type UIDEntry struct {
	UID  uint32
	Base string
}

// Line gives the entry's line, with its newline.
func (e UIDEntry) Line() string { return fmt.Sprintf("%d :%s\n", e.UID, e.Base) }

// ParseUIDList reads a UID list. Lines may have been appended behind the header's back, so Next is at least one more
// than the last UID. torn says that the text ends within a line, as a crash leaves it; that line is not taken, but
// the UID that it may have held is not given again.
func ParseUIDList(text []byte) (l UIDList, torn bool, err error) {
	if n := bytes.LastIndexByte(text, '\n'); n != len(text)-1 {
		torn = true
		text = text[:n+1]
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if err := l.parseHeader(lines[0]); err != nil {
		return UIDList{}, false, err
	}
	last := uint32(0)
	for i, line := range lines[1:] {
		e, err := parseUIDLine(line)
		if err != nil || e.UID <= last {
			return UIDList{}, false, fmt.Errorf("%w: line %d", ErrUIDList, i+2)
		}
		last = e.UID
		l.Entries = append(l.Entries, e)
	}
	l.Next = max(l.Next, last+1)
	if torn {
		l.Next++
	}
	return l, torn, nil
}

// parseHeader reads "3 V1700000000 N42 G0123…".
func (l *UIDList) parseHeader(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != "3" {
		return fmt.Errorf("%w: header", ErrUIDList)
	}
	for _, f := range fields[1:] {
		var err error
		switch f[0] {
		case 'V':
			l.Validity, err = parseUint32(f[1:])
		case 'N':
			l.Next, err = parseUint32(f[1:])
		case 'G':
			l.GUID = strings.Clone(f[1:]) // else it would keep the whole text
		}
		if err != nil {
			return fmt.Errorf("%w: header: %w", ErrUIDList, err)
		}
	}
	if l.Validity == 0 || l.Next == 0 {
		return fmt.Errorf("%w: header without V or N", ErrUIDList)
	}
	return nil
}

// parseUIDLine reads "7 W1234 :1700000000.M1P2Q3.host,S=1200"; what stands before the colon is Dovecot's own cache.
func parseUIDLine(line string) (UIDEntry, error) {
	head, file, ok := strings.Cut(line, " :")
	if !ok {
		return UIDEntry{}, ErrUIDList
	}
	num, _, _ := strings.Cut(head, " ")
	uid, err := parseUint32(num)
	if err != nil || uid == 0 || uid == 1<<32-1 {
		return UIDEntry{}, ErrUIDList
	}
	n, ok := ParseName(file)
	if !ok || n.Base == "" {
		return UIDEntry{}, ErrUIDList
	}
	return UIDEntry{UID: uid, Base: n.Base}, nil
}

func parseUint32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// Bytes gives the list as a file.
func (l UIDList) Bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "3 V%d N%d G%s\n", l.Validity, l.Next, l.GUID)
	for _, e := range l.Entries {
		b.WriteString(e.Line())
	}
	return b.Bytes()
}
