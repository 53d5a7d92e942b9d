package bodies

import (
	"context"
	"io"
	"os"

	"anycastle/mailroles/replica/chain"
)

// Answer writes the answer to a question of a member: arg is JSON, what is written to w may be of any length, and result
// is sent as JSON after it.
type Answer func(ctx context.Context, from string, arg []byte, w io.Writer) (result any, err error)

// Desk answers the questions of other members.
type Desk struct{ opt Options }

// NewDesk makes a desk that answers the questions with the given names, and, if the options have a store, "manifest",
// "digest" and "mailboxes". Peers of the options does not matter to it.
func NewDesk(opt Options, answers map[string]Answer) *Desk { return &Desk{opt: opt.complete()} }

// Run answers until ctx ends.
func (d *Desk) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Caller asks questions.
type Caller struct{ opt Options }

// NewCaller makes a caller. Store of the options does not matter to it.
func NewCaller(opt Options) *Caller { return &Caller{opt: opt.complete()} }

// Ask asks a member a question, copies what it writes to w, which may be nil, and stores its result in result, which may
// be nil. ctx should have a deadline; a member that says nothing for Times.Timeout is given up anyhow. ErrAnswer: the
// member's own error.
func (c *Caller) Ask(ctx context.Context, member, question string, arg any, w io.Writer, result any) error {
	return nil
}

// Manifest gets the manifest of a member's store into a file in dir that has no name. The caller closes it; it is read
// from its beginning.
func (c *Caller) Manifest(ctx context.Context, member, dir string) (*os.File, chain.Position, error) {
	return nil, chain.Position{}, nil
}

// Digest is that of a mailbox.
type Digest struct {
	Changed uint64    `json:"changed"` // index of the last operation that touched it
	Sum     chain.Sum `json:"sum"`
}

// Digest asks a member for the digest of a mailbox.
func (c *Caller) Digest(ctx context.Context, member, mailbox string) (Digest, error) {
	return Digest{}, nil
}

// Mailboxes asks a member for the mailboxes of its store.
func (c *Caller) Mailboxes(ctx context.Context, member string) ([]string, error) { return nil, nil }
