package imapd

import (
	"bytes"
	"errors"
	"io"
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
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, _ *imap.SearchOptions) (*imap.SearchData, error) {
	var seqs imap.SeqSet
	var uids imap.UIDSet
	data := &imap.SearchData{}
	for i, m := range s.view.messages {
		c := candidate{view: s.view, index: i, Message: m}
		ok, err := c.matches(criteria)
		if errors.Is(err, store.ErrNoMessage) {
			continue // expunged by another session
		}
		if err != nil {
			return nil, s.reply(err)
		}
		if !ok {
			continue
		}
		num := uint32(i) + 1
		if kind == imapserver.NumKindUID {
			num = m.UID
			uids.AddNum(imap.UID(num))
		} else {
			seqs.AddNum(num)
		}
		if data.Count == 0 {
			data.Min = num
		}
		data.Max = num
		data.Count++
	}
	data.All = seqs
	if kind == imapserver.NumKindUID {
		data.All = uids
	}
	return data, nil
}

// candidate is a message that is held against search criteria. Its content is read only if it is asked for.
type candidate struct {
	*store.Message
	view  *view
	index int
	raw   []byte
}

func (c *candidate) matches(k *imap.SearchCriteria) (bool, error) {
	if !c.matchesKnown(k) {
		return false, nil
	}
	if ok, err := c.matchesContent(k); err != nil || !ok {
		return false, err
	}
	for i := range k.Not {
		if ok, err := c.matches(&k.Not[i]); err != nil || ok {
			return false, err
		}
	}
	for i := range k.Or {
		left, err := c.matches(&k.Or[i][0])
		if err != nil {
			return false, err
		}
		right, err := c.matches(&k.Or[i][1])
		if err != nil || !left && !right {
			return false, err
		}
	}
	return true, nil
}

// matchesKnown holds the message against the criteria that need no look at its content.
func (c *candidate) matchesKnown(k *imap.SearchCriteria) bool {
	for _, set := range k.SeqNum {
		if !slices.Contains(c.view.numbers(set), c.index) {
			return false
		}
	}
	for _, set := range k.UID {
		if !slices.Contains(c.view.numbers(set), c.index) {
			return false
		}
	}
	flags := toIMAP(c.Flags)
	has := func(f imap.Flag) bool {
		return slices.ContainsFunc(flags, func(g imap.Flag) bool { return equalFold(f, g) })
	}
	for _, f := range k.Flag {
		if !has(f) {
			return false
		}
	}
	if slices.ContainsFunc(k.NotFlag, has) {
		return false
	}
	return within(c.Date, k.Since, k.Before) && (k.Larger == 0 || c.Size > k.Larger) && (k.Smaller == 0 || c.Size < k.Smaller)
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
	if err := c.read(); err != nil {
		return false, err
	}
	entity, err := message.Read(bytes.NewReader(c.raw))
	if entity == nil {
		// a message that cannot be parsed has no fields to match; it is not an error of the search
		return false, nil
	}
	_ = err // an unknown charset or encoding still gives a readable entity
	header := mail.Header{Header: entity.Header}
	for _, want := range k.Header {
		if !hasField(header.FieldsByKey(want.Key), want.Value) {
			return false, nil
		}
	}
	if sent {
		date, err := header.Date()
		if err != nil || !within(date, k.SentSince, k.SentBefore) {
			return false, nil
		}
	}
	for _, text := range k.Text {
		if !hasField(header.Fields(), text) && !c.bodyHas(text) {
			return false, nil
		}
	}
	for _, text := range k.Body {
		if !c.bodyHas(text) {
			return false, nil
		}
	}
	return true, nil
}

func (c *candidate) read() error {
	if c.raw != nil {
		return nil
	}
	file, err := c.view.folder.Open(c.UID)
	if err != nil {
		return err
	}
	defer file.Close()
	c.raw, err = io.ReadAll(file)
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

// bodyHas looks into the decoded text parts.
func (c *candidate) bodyHas(text string) bool {
	entity, _ := message.Read(bytes.NewReader(c.raw)) // a partial entity is searched as far as it goes
	if entity == nil {
		return false
	}
	found := false
	// Walk's own error is that of a part that cannot be read, which then has no match
	_ = entity.Walk(func(_ []int, part *message.Entity, err error) error {
		kind, _, _ := part.Header.ContentType()
		if err != nil || found || strings.HasPrefix(kind, "multipart/") {
			return nil
		}
		if kind == "" || strings.HasPrefix(kind, "text/") || strings.HasPrefix(kind, "message/") {
			body, _ := io.ReadAll(part.Body)
			found = containsFold(string(body), text)
		}
		return nil
	})
	return found
}

func containsFold(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}
