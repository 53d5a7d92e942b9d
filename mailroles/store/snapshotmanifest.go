package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"anycastle/mailroles/maildir"
)

// snapManifest has all that a snapshot knows of a mailbox: a line of JSON for the mailbox, one for each folder, followed by a
// line for each of its messages, and the CRC-32C of all before it. As there may be many messages, their lines are fields between
// tabs: UID, size, wide, date, MODSEQ, flags, sum, keywords, file and base name.
const snapManifest = "manifest"

// snapHead is the line of the mailbox.
type snapHead struct {
	Mailbox    string   `json:"mailbox"`
	Index      uint64   `json:"index"`
	Counter    uint32   `json:"counter"`
	Subscribed []string `json:"subscribed,omitempty"`
}

// snapFolder is the line of a folder.
type snapFolder struct {
	GUID     string   `json:"guid"`
	Name     string   `json:"name"`
	Validity uint32   `json:"validity"`
	Next     uint32   `json:"next"`
	Changed  uint64   `json:"changed"`
	Keywords []string `json:"keywords,omitempty"`
	Messages int      `json:"messages"`
}

// kept is the line of a message.
type kept struct {
	UID              uint32
	Base             string
	Flags            maildir.Flags
	Keywords         []string
	Size, Wide, Date int64
	Sum              string
	Modseq           uint64
	File             string // below the snapshot's directory; empty when it lacks the body
}

// inPlace is the file of a message that is called after its UID, in a directory called after its folder.
const inPlace = "="

func keptOf(m *Message) kept {
	return kept{
		UID: m.UID, Base: m.base, Flags: m.Flags, Keywords: m.Keywords, Size: m.Size, Wide: m.Wide, Date: m.Date.Unix(),
		Sum: m.Sum, Modseq: m.Modseq,
	}
}

func (k kept) body(mailbox string) Body {
	return Body{Mailbox: mailbox, Name: maildir.Unique(k.Base), Sum: k.Sum, Size: k.Size, Date: k.Date}
}

func (k kept) message() *Message {
	return &Message{
		UID: k.UID, base: k.Base, file: k.File, Size: k.Size, Wide: k.Wide, Date: time.Unix(k.Date, 0), Sum: k.Sum, Modseq: k.Modseq,
		Marks: Marks{Flags: k.Flags, Keywords: k.Keywords},
	}
}

// snapWriter is a manifest that is being written.
type snapWriter struct {
	text bytes.Buffer
	enc  *json.Encoder
	err  error
}

func newSnapWriter(head snapHead) *snapWriter {
	m := &snapWriter{}
	m.enc = json.NewEncoder(&m.text)
	m.err = m.enc.Encode(head)
	return m
}

func (m *snapWriter) folder(c *contents, list []kept) error {
	f := snapFolder{
		GUID: c.guid, Name: c.name, Validity: c.validity, Next: c.next, Changed: c.changed, Keywords: c.keywords, Messages: len(list),
	}
	err := errors.Join(m.err, m.enc.Encode(f))
	for _, k := range list {
		m.text.Write(k.append(m.text.AvailableBuffer())) // it takes all it is given
	}
	return err
}

func (m *snapWriter) bytes() []byte { return sealSnap(m.text.Bytes()) }

// sealSnap adds the checksum.
func sealSnap(body []byte) []byte {
	return fmt.Appendf(body, "%08x\n", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

// errSnapManifest says that a manifest is damaged.
var errSnapManifest = errors.New("store: manifest is damaged")

// append adds the line of a message.
func (k kept) append(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(k.UID), 10)
	for _, n := range []int64{k.Size, k.Wide, k.Date} {
		b = strconv.AppendInt(append(b, '\t'), n, 10)
	}
	for _, n := range []uint64{k.Modseq, uint64(k.Flags)} {
		b = strconv.AppendUint(append(b, '\t'), n, 10)
	}
	for _, s := range []string{k.Sum, strings.Join(k.Keywords, " "), k.File, k.Base} {
		b = append(append(b, '\t'), s...)
	}
	return append(b, '\n')
}

// parseKept reads the line of a message.
func parseKept(line string) (k kept, ok bool) {
	line, ok = strings.CutSuffix(line, "\n")
	var fields [10]string
	for i := range fields {
		var more bool
		fields[i], line, more = strings.Cut(line, "\t")
		ok = ok && more == (i < len(fields)-1)
	}
	var numbers [6]int64
	for i := range numbers {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		ok = ok && err == nil
		numbers[i] = n
	}
	k = kept{
		UID: uint32(numbers[0]), Size: numbers[1], Wide: numbers[2], Date: numbers[3], Modseq: uint64(numbers[4]),
		Flags: maildir.Flags(numbers[5]), Sum: fields[6], File: fields[8], Base: fields[9],
	}
	if fields[7] != "" {
		k.Keywords = strings.Split(fields[7], " ")
	}
	return k, ok && numbers[0] == int64(k.UID) && k.good()
}

// parseSnapManifest gives a mailbox as a snapshot has it. The files of its messages are below the snapshot's directory.
func parseSnapManifest(text []byte) (st *state, head snapHead, err error) {
	const sumLen = 9
	if len(text) < sumLen {
		return nil, head, fmt.Errorf("%w: it is too short", errSnapManifest)
	}
	body, sum := text[:len(text)-sumLen], string(text[len(text)-sumLen:])
	if fmt.Sprintf("%08x\n", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))) != sum {
		return nil, head, fmt.Errorf("%w: its checksum is wrong", errSnapManifest)
	}
	st = newState()
	var c *contents
	left, n := 0, 0
	for line := range strings.Lines(string(body)) {
		n++
		switch {
		case n == 1:
			if json.Unmarshal([]byte(line), &head) != nil {
				return nil, head, fmt.Errorf("%w: line %d", errSnapManifest, n)
			}
			st.counter, st.subscribed = head.Counter, head.Subscribed
		case left == 0:
			var f snapFolder
			if json.Unmarshal([]byte(line), &f) != nil || !f.good() || st.folders[f.GUID] != nil {
				return nil, head, fmt.Errorf("%w: line %d", errSnapManifest, n)
			}
			c = &contents{guid: f.GUID, name: f.Name, validity: f.Validity, next: f.Next, changed: f.Changed, keywords: f.Keywords}
			st.folders[c.guid] = c
			left = f.Messages
		default:
			k, ok := parseKept(line)
			if !ok || len(c.messages) > 0 && c.messages[len(c.messages)-1].UID >= k.UID {
				return nil, head, fmt.Errorf("%w: line %d", errSnapManifest, n)
			}
			c.messages = append(c.messages, k.message())
			st.usage.add(k.Size, 1)
			left--
		}
	}
	if n == 0 || left > 0 {
		return nil, head, fmt.Errorf("%w: it ends too early", errSnapManifest)
	}
	return st, head, nil
}

// good refuses what a folder cannot be: what a manifest has becomes an operation.
func (f snapFolder) good() bool {
	_, err := maildir.FolderDir(f.Name)
	return err == nil && isGUID(f.GUID) && f.Validity > 0 && f.Next > 0 && f.Messages >= 0 && len(f.Keywords) <= maildir.MaxKeywords
}

func (k kept) good() bool {
	o := op{Arrivals: []arrival{k.arrival()}}
	return o.checkMessages() == nil && (k.File == "" || k.File == inPlace || filepath.IsLocal(k.File) && !strings.ContainsFunc(k.File, unicode.IsControl))
}

// arrival gives the message as it comes into a folder.
func (k kept) arrival() arrival {
	return arrival{
		UID: k.UID, Base: k.Base, Flags: k.Flags, Keywords: k.Keywords, Size: k.Size, Wide: k.Wide, Date: k.Date, Sum: k.Sum,
	}
}

func uidName(uid uint32) string { return strconv.FormatUint(uint64(uid), 10) }
