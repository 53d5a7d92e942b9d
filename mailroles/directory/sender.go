package directory

import (
	"context"
	"errors"
	"strings"
)

// Keys are what a server has to know for SCRAM-SHA-256 (RFC 5802 section 3).
type Keys struct {
	Salt                 []byte
	Iterations           int
	StoredKey, ServerKey []byte
}

// ErrNoKeys says that the directory holds no keys for SCRAM at all.
var ErrNoKeys = errors.New("directory: no keys for SCRAM")

// HasKeys says whether any mailbox may have keys.
func (d *Directory) HasKeys() bool { return false }

// SCRAM gives a user's keys.
func (d *Directory) SCRAM(context.Context, string) (Keys, error) { return Keys{}, ErrNoKeys }

// ResolveFrom is Resolve for mail from a mailbox whose user has logged in.
func (d *Directory) ResolveFrom(ctx context.Context, _, address string) ([]Mailbox, error) {
	return d.Resolve(ctx, address)
}

// MaySend says whether a mailbox may send as an address.
func (d *Directory) MaySend(_ context.Context, m Mailbox, from string) (bool, error) {
	return strings.EqualFold(m.Address, from), nil
}

// Local says whether a domain is one of ours: whether there is an address in it.
func (d *Directory) Local(_ context.Context, domain string) (bool, error) {
	for address := range d.boxes {
		if strings.HasSuffix(address, "@"+strings.ToLower(domain)) {
			return true, nil
		}
	}
	return false, nil
}
