package imapd

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"

	"anycastle/mailroles/store"
)

// Search implements imapserver.Session.
func (s *session) Search(kind imapserver.NumKind, k *imap.SearchCriteria, options *imap.SearchOptions) (*imap.SearchData, error) {
	sets := map[*imap.SearchCriteria][]map[int]bool{}
	s.resolve(k, sets)
	var found []int
	for i, m := range s.view.messages {
		c := candidate{view: s.view, index: i, Message: m, sets: sets}
		ok, err := c.matches(k)
		if err := errors.Join(err, c.close()); errors.Is(err, store.ErrNoMessage) {
			continue // expunged by another session
		} else if err != nil {
			s.save(options, nil)
			return nil, s.reply(err)
		}
		if ok {
			found = append(found, i)
		}
	}
	s.save(options, found)
	if s.guard.save {
		s.guard.hush()
		found = nil
	}
	return s.result(kind, found), nil
}

// resolve finds what the sets of criteria name, once for all messages.
func (s *session) resolve(k *imap.SearchCriteria, sets map[*imap.SearchCriteria][]map[int]bool) {
	add := func(set imap.NumSet) {
		in := map[int]bool{}
		for _, i := range s.numbers(set) {
			in[i] = true
		}
		sets[k] = append(sets[k], in)
	}
	for _, set := range k.SeqNum {
		add(set)
	}
	for _, set := range k.UID {
		add(set)
	}
	for i := range k.Not {
		s.resolve(&k.Not[i], sets)
	}
	for i := range k.Or {
		s.resolve(&k.Or[i][0], sets)
		s.resolve(&k.Or[i][1], sets)
	}
}

// save keeps a result for $ (RFC 5182 section 2.1): what MIN and MAX show if nothing else is asked for, else all.
func (s *session) save(options *imap.SearchOptions, found []int) {
	if !options.ReturnSave {
		return
	}
	if n := len(found); n > 0 && (options.ReturnMin || options.ReturnMax) && !options.ReturnAll && !options.ReturnCount {
		first, last := found[0], found[n-1]
		switch {
		case !options.ReturnMax:
			last = first
		case !options.ReturnMin:
			first = last
		}
		found = slices.Compact([]int{first, last})
	}
	s.view.saved = nil
	for _, i := range found {
		s.view.saved.AddNum(imap.UID(s.view.messages[i].UID))
	}
}

func (s *session) result(kind imapserver.NumKind, found []int) *imap.SearchData {
	var seqs imap.SeqSet
	var uids imap.UIDSet
	data := &imap.SearchData{Count: uint32(len(found))}
	for k, i := range found {
		num := uint32(i) + 1
		if kind == imapserver.NumKindUID {
			num = s.view.messages[i].UID
			uids.AddNum(imap.UID(num))
		} else {
			seqs.AddNum(num)
		}
		if k == 0 {
			data.Min = num
		}
		data.Max = num
	}
	data.All = seqs
	if kind == imapserver.NumKindUID {
		data.All = uids
	}
	return data
}

// candidate is a message that is held against search criteria. Its file is read only as far as it is asked for.
type candidate struct {
	*store.Message
	view   *view
	index  int
	sets   map[*imap.SearchCriteria][]map[int]bool
	file   *os.File     // nil while it has not been opened
	msg    *content     // of the file
	header *mail.Header // nil while it has not been read
}

func (c *candidate) close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

// matches looks at what needs no file first, at all depths.
func (c *candidate) matches(k *imap.SearchCriteria) (bool, error) {
	if !c.matchesKnown(k) {
		return false, nil
	}
	for _, deep := range []bool{false, true} {
		for i := range k.Not {
			if needsFile(&k.Not[i]) != deep {
				continue
			}
			if ok, err := c.matches(&k.Not[i]); err != nil || ok {
				return false, err
			}
		}
		for i := range k.Or {
			if or := &k.Or[i]; needsFile(&or[0], &or[1]) == deep {
				if ok, err := c.matchesEither(or); err != nil || !ok {
					return false, err
				}
			}
		}
	}
	return c.matchesContent(k)
}

func (c *candidate) matchesEither(or *[2]imap.SearchCriteria) (bool, error) {
	first, second := &or[0], &or[1]
	if needsFile(first) {
		first, second = second, first
	}
	if ok, err := c.matches(first); err != nil || ok {
		return ok, err
	}
	return c.matches(second)
}

func needsFile(list ...*imap.SearchCriteria) bool {
	for _, k := range list {
		if len(k.Header)+len(k.Body)+len(k.Text) > 0 || !k.SentSince.IsZero() || !k.SentBefore.IsZero() {
			return true
		}
		for i := range k.Not {
			if needsFile(&k.Not[i]) {
				return true
			}
		}
		for i := range k.Or {
			if needsFile(&k.Or[i][0], &k.Or[i][1]) {
				return true
			}
		}
	}
	return false
}

// matchesKnown holds the message against the criteria that need no look at its file.
func (c *candidate) matchesKnown(k *imap.SearchCriteria) bool {
	for _, set := range c.sets[k] {
		if !set[c.index] {
			return false
		}
	}
	for _, f := range k.Flag {
		if !c.has(f) {
			return false
		}
	}
	if slices.ContainsFunc(k.NotFlag, c.has) {
		return false
	}
	return within(c.Date, k.Since, k.Before) && (k.Larger == 0 || c.Size > k.Larger) && (k.Smaller == 0 || c.Size < k.Smaller)
}

func (c *candidate) has(f imap.Flag) bool {
	if equalFold(f, recentFlag) {
		return c.view.isRecent(c.UID)
	}
	for _, e := range flagTable {
		if equalFold(f, e.flag) {
			return c.Flags&e.letter != 0
		}
	}
	return slices.ContainsFunc(c.Keywords, func(k string) bool { return strings.EqualFold(k, string(f)) })
}

// within compares days and leaves time and zone aside (RFC 3501 section 6.4.4).
func within(t, since, before time.Time) bool {
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	return (since.IsZero() || !day.Before(since)) && (before.IsZero() || day.Before(before))
}

func (c *candidate) matchesContent(k *imap.SearchCriteria) (bool, error) {
	sent := !k.SentSince.IsZero() || !k.SentBefore.IsZero()
	if len(k.Header)+len(k.Body)+len(k.Text) == 0 && !sent {
		return true, nil
	}
	if err := c.readHeader(); err != nil {
		return false, err
	}
	for _, want := range k.Header {
		if !hasField(c.header.FieldsByKey(want.Key), want.Value) {
			return false, nil
		}
	}
	if sent {
		date, err := c.header.Date()
		if err != nil || date.IsZero() || !within(date, k.SentSince, k.SentBefore) {
			return false, nil
		}
	}
	for _, text := range k.Text {
		if hasField(c.header.Fields(), text) {
			continue
		}
		if ok, err := c.bodyHas(text); err != nil || !ok {
			return false, err
		}
	}
	for _, text := range k.Body {
		if ok, err := c.bodyHas(text); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// readHeader reads the message's header.
func (c *candidate) readHeader() error {
	if c.header != nil {
		return nil
	}
	var err error
	if c.file, err = c.view.folder.Open(c.UID); err != nil {
		return err
	}
	c.msg = &content{SectionReader: io.NewSectionReader(c.file, 0, c.Size)}
	size, err := headerSize(again(c.msg.SectionReader))
	if err != nil {
		return err
	}
	head, err := readHead(c.msg.SectionReader, &part{body: size})
	c.header = &mail.Header{Header: parseHeader(head)}
	return err
}

func hasField(fields message.HeaderFields, text string) bool {
	if text == "" {
		return fields.Next()
	}
	for fields.Next() {
		value, _ := fields.Text() // undecodable text is compared as it stands
		if containsFold(value, text) {
			return true
		}
	}
	return false
}

// bodyHas looks into the decoded text parts, and the headers of messages within.
func (c *candidate) bodyHas(text string) (bool, error) {
	root, err := c.msg.find(nil)
	if err != nil {
		return false, err
	}
	found := false
	root.each(func(p *part) {
		if found || err != nil {
			return
		}
		var head []byte
		if head, err = readHead(c.msg.SectionReader, p); err != nil {
			return
		}
		h := parseHeader(head)
		if p != root && hasField(h.Fields(), text) {
			found = true
			return
		}
		if !strings.HasPrefix(p.media, "text/") {
			return
		}
		// what cannot be decoded is searched as it stands, as far as it can be read
		entity, _ := message.New(h, io.NewSectionReader(c.msg, p.body, p.end-p.body))
		body, _ := io.ReadAll(entity.Body)
		found = containsFold(string(body), text)
	})
	return found, err
}

func containsFold(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}
