package store

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"anycastle/mailroles/maildir"
)

// indexFile holds what is known of a folder's messages beyond their names, so that opening it looks at no file. It can
// be removed at any time: what it does not have is found out again, but for the MODSEQs, which begin anew.
const indexFile = "anycastle-index"

// Version 1 has neither sums nor MODSEQs.
const (
	indexHead1 = "anycastle-index 1\n"
	indexHead  = "anycastle-index 2\n"
)

// fileInfo is what cannot be read from the name of every message.
type fileInfo struct {
	size, wide int64
	date       time.Time
	modseq     uint64
	sum        string        // empty: not known
	away       bool          // it had no file, so that no name tells its marks
	flags      maildir.Flags // letters that it would have had
}

// indexBytes gives an index as a file: a line with the folder's MODSEQ and the sums of its lists, lines "SIZE WIDE DATE
// MODSEQ SUM BASE", and the CRC-32C of all before it. A sum that is not known is "-". MODSEQ is MODSEQ:LETTERS for messages
// that are away.
func indexBytes(changed uint64, lists listSums, messages []*Message, away map[*Message]maildir.Flags) []byte {
	b := fmt.Appendf(nil, "%s%d %08x %08x\n", indexHead, changed, lists.uids, lists.keywords)
	for _, m := range messages {
		b = strconv.AppendInt(b, m.Size, 10)
		b = strconv.AppendInt(append(b, ' '), m.Wide, 10)
		b = strconv.AppendInt(append(b, ' '), m.Date.Unix(), 10)
		b = strconv.AppendUint(append(b, ' '), m.Modseq, 10)
		if letters, ok := away[m]; ok {
			b = append(append(b, ':'), letters.String()...)
		}
		sum := m.Sum
		if sum == "" {
			sum = "-"
		}
		b = append(append(b, ' '), sum...)
		b = append(append(append(b, ' '), m.base...), '\n')
	}
	return fmt.Appendf(b, "%08x\n", textSum(b))
}

// parseIndex reads an index. One that is damaged is empty. lists is nil where it does not tell.
func parseIndex(text []byte) (index map[string]fileInfo, changed uint64, lists *listSums) {
	const sumLen = 9
	if len(text) < len(indexHead)+sumLen {
		return nil, 0, nil
	}
	body, sum := text[:len(text)-sumLen], string(text[len(text)-sumLen:])
	if fmt.Sprintf("%08x\n", textSum(body)) != sum {
		return nil, 0, nil
	}
	version := 2
	text, ok := bytes.CutPrefix(body, []byte(indexHead))
	if !ok {
		version = 1
		if text, ok = bytes.CutPrefix(body, []byte(indexHead1)); !ok {
			return nil, 0, nil
		}
	}
	rest := string(text)
	if version == 2 {
		var first string
		first, rest, _ = strings.Cut(rest, "\n")
		lists = &listSums{}
		if n, err := fmt.Sscanf(first, "%d %08x %08x", &changed, &lists.uids, &lists.keywords); n != 3 || err != nil {
			return nil, 0, nil
		}
	}
	index = map[string]fileInfo{}
	for line := range strings.Lines(rest) {
		base, i, ok := parseIndexLine(strings.TrimSuffix(line, "\n"), version)
		if !ok {
			return nil, 0, nil
		}
		index[base] = i
	}
	return index, changed, lists
}

func parseIndexLine(line string, version int) (base string, i fileInfo, ok bool) {
	n := 4
	if version == 2 {
		n = 6
	}
	fields := strings.SplitN(line, " ", n)
	if len(fields) != n {
		return "", i, false
	}
	var date int64
	for n, to := range []*int64{&i.size, &i.wide, &date} {
		var err error
		if *to, err = strconv.ParseInt(fields[n], 10, 64); err != nil {
			return "", i, false
		}
	}
	if version == 2 {
		var err error
		number, letters, away := strings.Cut(fields[3], ":")
		i.away, i.flags = away, maildir.ParseFlags(letters)
		if i.modseq, err = strconv.ParseUint(number, 10, 64); err != nil {
			return "", i, false
		}
		if fields[4] != "-" {
			if !isSum(fields[4]) {
				return "", i, false
			}
			i.sum = strings.Clone(fields[4]) // else it would keep the whole text
		}
	}
	i.date = time.Unix(date, 0)
	return fields[n-1], i, i.size >= 0 && i.wide >= i.size
}
