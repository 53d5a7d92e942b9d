package directory

import (
	"context"
	"time"
)

// Status is what a Directory is made of, and how it stands.
type Status struct {
	Source string    `json:"source"` // the file, or the LDAP server that answers
	Counts           // of a file
	ReadAt time.Time `json:"read_at,omitzero"` // when the file was read
	Stale  uint64    `json:"stale,omitempty"`  // answers about recipients that were given although LDAP was away
	Error  string    `json:"error,omitempty"`  // why what is there now is not in use, or not reached
}

// Run has a change of the mailboxes file read by itself, until ctx ends; what is wrong is logged and not taken. The
// directory answers before, meanwhile and after.
func (d *Directory) Run(ctx context.Context) error {
	if d.ldap != nil {
		d.ldap.run(ctx)
	} else {
		d.file.run(ctx)
	}
	return nil
}

// Reload reads the mailboxes file now. The error says why it is refused; what was read before stays then. Of LDAP all that
// is remembered is asked for again when it is needed.
func (d *Directory) Reload() error {
	if d.ldap != nil {
		d.ldap.cache.expire()
		return nil
	}
	return d.file.reload()
}

// Changed gives a channel that is closed when answers may have become others: then ask again, for the channel too.
func (d *Directory) Changed() <-chan struct{} {
	if d.ldap != nil {
		d.ldap.mu.Lock()
		defer d.ldap.mu.Unlock()
		return d.ldap.changed
	}
	d.file.mu.Lock()
	defer d.file.mu.Unlock()
	return d.file.changed
}

// Status says how the directory stands.
func (d *Directory) Status() Status {
	if d.ldap != nil {
		return d.ldap.status()
	}
	d.file.mu.Lock()
	defer d.file.mu.Unlock()
	return d.file.status
}

// Close ends connections to LDAP servers that are idle. Later questions to them give an error.
func (d *Directory) Close() error {
	if d.ldap == nil {
		return nil
	}
	return d.ldap.close()
}
