package store

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// indexFile holds what is known of a folder's messages beyond their names, so that opening it looks at no file. It can
// be removed at any time: what it does not have is found out again.
const indexFile = "anycastle-index"

const indexHead = "anycastle-index 1\n"

// fileInfo is what cannot be read from the name of every message.
type fileInfo struct {
	size, wide int64
	date       time.Time
}

// indexBytes gives an index as a file: lines "SIZE WIDE DATE BASE", and the CRC-32C of all before it.
func indexBytes(messages []*Message) []byte {
	b := []byte(indexHead)
	for _, m := range messages {
		b = strconv.AppendInt(b, m.Size, 10)
		b = strconv.AppendInt(append(b, ' '), m.Wide, 10)
		b = strconv.AppendInt(append(b, ' '), m.Date.Unix(), 10)
		b = append(append(append(b, ' '), m.base...), '\n')
	}
	return fmt.Appendf(b, "%08x\n", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// parseIndex reads an index. One that is damaged is empty.
func parseIndex(text []byte) map[string]fileInfo {
	const sumLen = 9
	if len(text) < len(indexHead)+sumLen || !bytes.HasPrefix(text, []byte(indexHead)) {
		return nil
	}
	body, sum := text[:len(text)-sumLen], string(text[len(text)-sumLen:])
	if fmt.Sprintf("%08x\n", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))) != sum {
		return nil
	}
	index := map[string]fileInfo{}
	for line := range strings.Lines(string(body[len(indexHead):])) {
		var i fileInfo
		var date int64
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(fields) != 4 {
			return nil
		}
		for n, to := range []*int64{&i.size, &i.wide, &date} {
			var err error
			if *to, err = strconv.ParseInt(fields[n], 10, 64); err != nil {
				return nil
			}
		}
		if i.size < 0 || i.wide < i.size {
			return nil
		}
		i.date = time.Unix(date, 0)
		index[fields[3]] = i
	}
	return index
}
