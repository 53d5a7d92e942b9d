package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"time"

	"anycastle/mailroles/maildir"
)

// snapManifest has all that a snapshot knows of a mailbox: a line of JSON for the mailbox, one for each folder, followed by one
// for each of its messages, and the CRC-32C of all before it.
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
	UID      uint32        `json:"uid"`
	Base     string        `json:"base"`
	Flags    maildir.Flags `json:"flags,omitempty"`
	Keywords []string      `json:"keywords,omitempty"`
	Size     int64         `json:"size"`
	Wide     int64         `json:"wide"`
	Date     int64         `json:"date"`
	Sum      string        `json:"sum,omitempty"`
	Modseq   uint64        `json:"modseq,omitempty"`
	File     string        `json:"file,omitempty"` // below the snapshot's directory; empty when it lacks the body
}

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
	for i := range list {
		if err == nil {
			err = m.enc.Encode(&list[i])
		}
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
	lines := bytes.SplitAfter(body, []byte("\n"))
	lines = lines[:len(lines)-1] // behind the last is nothing
	next := func(v any) bool {
		if err != nil || len(lines) == 0 || json.Unmarshal(lines[0], v) != nil {
			return false
		}
		lines = lines[1:]
		return true
	}
	st = newState()
	bad := func() (*state, snapHead, error) {
		return nil, head, fmt.Errorf("%w: %d lines before its end", errSnapManifest, len(lines))
	}
	if !next(&head) {
		return bad()
	}
	st.counter, st.subscribed = head.Counter, head.Subscribed
	for len(lines) > 0 {
		var f snapFolder
		if !next(&f) || !f.good() || st.folders[f.GUID] != nil || f.Messages > len(lines) {
			return bad()
		}
		c := &contents{guid: f.GUID, name: f.Name, validity: f.Validity, next: f.Next, changed: f.Changed, keywords: f.Keywords}
		st.folders[c.guid] = c
		for range f.Messages {
			var k kept
			if !next(&k) || !k.good() || len(c.messages) > 0 && c.messages[len(c.messages)-1].UID >= k.UID {
				return bad()
			}
			m := k.message()
			c.messages = append(c.messages, m)
			st.usage.add(m.Size, 1)
		}
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
	return o.checkMessages() == nil && (k.File == "" || filepath.IsLocal(k.File))
}

// arrival gives the message as it comes into a folder.
func (k kept) arrival() arrival {
	return arrival{
		UID: k.UID, Base: k.Base, Flags: k.Flags, Keywords: k.Keywords, Size: k.Size, Wide: k.Wide, Date: k.Date, Sum: k.Sum,
	}
}

func uidName(uid uint32) string { return strconv.FormatUint(uint64(uid), 10) }
