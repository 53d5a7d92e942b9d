package directory

import (
	"context"
	"time"
)

// Status is what a Directory is made of, and how it stands.
type Status struct {
	Source string `json:"source"` // the file
	Counts
	ReadAt time.Time `json:"read_at,omitzero"` // when it was read
	Error  string    `json:"error,omitempty"`  // why what is there now is not in use
}

// Run has a change of the mailboxes file read by itself, until ctx ends; what is wrong is logged and not taken. The
// directory answers before, meanwhile and after.
func (d *Directory) Run(ctx context.Context) error {
	d.file.run(ctx)
	return nil
}

// Reload reads the mailboxes file now. The error says why it is refused; what was read before stays then.
func (d *Directory) Reload() error { return d.file.reload() }

// Changed gives a channel that is closed when answers may have become others: then ask again, for the channel too.
func (d *Directory) Changed() <-chan struct{} {
	d.file.mu.Lock()
	defer d.file.mu.Unlock()
	return d.file.changed
}

// Status says how the directory stands.
func (d *Directory) Status() Status {
	d.file.mu.Lock()
	defer d.file.mu.Unlock()
	return d.file.status
}
