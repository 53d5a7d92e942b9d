package store

import "fmt"

// Limit is the most that a mailbox may hold; 0 is no limit.
type Limit struct{ Bytes, Messages int64 }

// Usage is what a mailbox holds.
type Usage struct{ Bytes, Messages int64 }

func (u *Usage) add(bytes, messages int64) {
	u.Bytes += bytes
	u.Messages += messages
}

// SetLimit sets the mailbox's limit from now on. What is there stays when it is more.
func (m *Mailbox) SetLimit(l Limit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = l
}

// Usage counts the messages of all folders, and those that are about to be there.
func (m *Mailbox) Usage() Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.promised
}

// Fits reports, as ErrQuota, that the mailbox has no room for one more message of that many bytes.
func (m *Mailbox) Fits(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fits(size, 1)
}

func (m *Mailbox) fits(size, messages int64) error {
	u := m.promised
	if m.limit.Bytes > 0 && u.Bytes+size > m.limit.Bytes {
		return fmt.Errorf("%w: %d bytes of %d, and %d more", ErrQuota, u.Bytes, m.limit.Bytes, size)
	}
	if m.limit.Messages > 0 && u.Messages+messages > m.limit.Messages {
		return fmt.Errorf("%w: %d messages of %d, and %d more", ErrQuota, u.Messages, m.limit.Messages, messages)
	}
	return nil
}
