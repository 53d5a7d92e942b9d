package chaos

import (
	"fmt"
	"strconv"
	"strings"
)

// uidList is what dovecot-uidlist says.
type uidList struct {
	validity, next uint32
	entries        []uidEntry
}

type uidEntry struct {
	uid  uint32
	base string
}

// parseUIDList reads version 3 as a store leaves it when it ends cleanly: anything torn or out of order is an error.
func parseUIDList(text []byte) (l uidList, err error) {
	lines := strings.Split(string(text), "\n")
	if len(lines) < 2 || lines[len(lines)-1] != "" {
		return l, fmt.Errorf("the UID list ends within a line")
	}
	head := strings.Fields(lines[0])
	if len(head) < 3 || head[0] != "3" {
		return l, fmt.Errorf("the UID list begins with %q", lines[0])
	}
	for _, field := range head[1:] {
		switch field[0] {
		case 'V':
			l.validity, err = number(field[1:])
		case 'N':
			l.next, err = number(field[1:])
		}
		if err != nil {
			return l, fmt.Errorf("the UID list begins with %q", lines[0])
		}
	}
	last := uint32(0)
	for _, line := range lines[1 : len(lines)-1] {
		before, file, ok := strings.Cut(line, " :")
		num, _, _ := strings.Cut(before, " ")
		uid, err := number(num)
		if !ok || err != nil || uid <= last {
			return l, fmt.Errorf("the UID list has %q", line)
		}
		last = uid
		base, _, _ := strings.Cut(file, ":")
		l.entries = append(l.entries, uidEntry{uid, base})
	}
	if l.next <= last {
		return l, fmt.Errorf("the UID list gives %d next and has %d", l.next, last)
	}
	return l, nil
}

func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err
}

// parseKeywords gives the names that lower-case letters have in a folder.
func parseKeywords(text []byte) map[byte]string {
	names := map[byte]string{}
	for line := range strings.Lines(string(text)) {
		num, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if i, err := strconv.Atoi(num); err == nil && i >= 0 && i < 26 {
			names['a'+byte(i)] = name
		}
	}
	return names
}

// indexed is what anycastle-index says of a message beyond its name.
type indexed struct {
	modseq uint64
	sum    string
}

// parseIndex reads version 2: a line with the folder's MODSEQ, then lines "SIZE WIDE DATE MODSEQ SUM BASE", by base name. Of what is
// no such file it gives nothing, which a comparison with another replica's shows.
func parseIndex(text []byte) map[string]indexed {
	head, rest, _ := strings.Cut(string(text), "\n")
	if head != "anycastle-index 2" {
		return nil
	}
	index := map[string]indexed{}
	for line := range strings.Lines(rest) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
		if len(fields) != 6 {
			continue // the folder's own MODSEQ, and the sum of all
		}
		if n, err := strconv.ParseUint(fields[3], 10, 64); err == nil {
			index[fields[5]] = indexed{n, fields[4]}
		}
	}
	return index
}

func sprintPlace(mailbox, folder string, at Place) string {
	return fmt.Sprintf("%s %s UIDVALIDITY %d UID %d", mailbox, folder, at.Validity, at.UID)
}
