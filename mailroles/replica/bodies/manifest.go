package bodies

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"anycastle/mailroles/replica/chain"
)

// manifestResult follows a manifest.
type manifestResult struct {
	Index uint64 `json:"index"`
	Chain string `json:"chain"`
	Sum   string `json:"sum"` // of the manifest
}

// Digest is that of a mailbox.
type Digest struct {
	Changed uint64 // index of the last operation that touched it
	Sum     chain.Sum
}

type digestResult struct {
	Changed uint64 `json:"changed"`
	Sum     string `json:"sum"`
}

// manifest writes the store's manifest to a file first: the store stands still until it is written.
func (d *Desk) manifest(_ context.Context, _ string, _ []byte, w io.Writer) (any, error) {
	f, err := nameless(d.opt.Spool)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	pos, err := d.opt.Store.WriteManifest(io.MultiWriter(f, hash))
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if _, err := io.Copy(w, f); err != nil {
		return nil, fmt.Errorf("send manifest: %w", err)
	}
	return manifestResult{Index: pos.Index, Chain: pos.Chain.String(), Sum: hex.EncodeToString(hash.Sum(nil))}, nil
}

func (d *Desk) digest(_ context.Context, _ string, arg []byte, _ io.Writer) (any, error) {
	mailbox, err := parse[string](arg)
	if err != nil {
		return nil, err
	}
	if !isName(mailbox) {
		return nil, fmt.Errorf("%w: mailbox %q", errProtocol, mailbox)
	}
	changed, sum, err := d.opt.Store.Digest(mailbox)
	if err != nil {
		return nil, err
	}
	return digestResult{changed, sum.String()}, nil
}

func (d *Desk) mailboxes(_ context.Context, _ string, _ []byte, w io.Writer) (any, error) {
	out := json.NewEncoder(w)
	for _, m := range d.opt.Store.Mailboxes() {
		if err := out.Encode(m); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Manifest gets the manifest of a member's store into a file in dir that has no name. The caller closes it; it is read
// from its beginning.
func (c *Caller) Manifest(ctx context.Context, member, dir string) (*os.File, chain.Position, error) {
	f, err := nameless(dir)
	if err != nil {
		return nil, chain.Position{}, err
	}
	pos, err := c.manifest(ctx, member, f)
	if err != nil {
		return nil, chain.Position{}, errors.Join(err, f.Close())
	}
	return f, pos, nil
}

func (c *Caller) manifest(ctx context.Context, member string, f *os.File) (chain.Position, error) {
	hash := sha256.New()
	var result manifestResult
	if err := c.Ask(ctx, member, "manifest", nil, io.MultiWriter(f, hash), &result); err != nil {
		return chain.Position{}, err
	}
	if hex.EncodeToString(hash.Sum(nil)) != result.Sum {
		return chain.Position{}, fmt.Errorf("%w: manifest of %s has another sum than it says", errProtocol, member)
	}
	sum, err := parseSum(result.Chain)
	if err != nil {
		return chain.Position{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return chain.Position{}, fmt.Errorf("read manifest: %w", err)
	}
	return chain.Position{Index: result.Index, Chain: sum}, nil
}

// Digest asks a member for the digest of a mailbox.
func (c *Caller) Digest(ctx context.Context, member, mailbox string) (Digest, error) {
	var result digestResult
	if err := c.Ask(ctx, member, "digest", mailbox, nil, &result); err != nil {
		return Digest{}, err
	}
	sum, err := parseSum(result.Sum)
	return Digest{Changed: result.Changed, Sum: sum}, err
}

// maxMailboxes is more than a LUN has, also while a member makes mistakes.
const maxMailboxes = 10000

// Mailboxes asks a member for the mailboxes of its store.
func (c *Caller) Mailboxes(ctx context.Context, member string) ([]string, error) {
	var list []string
	pr, pw := io.Pipe()
	read := make(chan error, 1)
	go func() { // ends with pw
		err := readMailboxes(pr, &list)
		pr.CloseWithError(err)
		read <- err
	}()
	err := c.Ask(ctx, member, "mailboxes", nil, pw, nil)
	pw.CloseWithError(err)
	if parsed := <-read; err == nil {
		err = parsed
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// readMailboxes reads names of mailboxes, in JSON.
func readMailboxes(r io.Reader, list *[]string) error {
	for in := json.NewDecoder(io.LimitReader(r, maxMailboxes<<9)); len(*list) <= maxMailboxes; {
		var name string
		if err := in.Decode(&name); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: %v", errProtocol, err)
		}
		if !isName(name) {
			return fmt.Errorf("%w: mailbox %q", errProtocol, name)
		}
		*list = append(*list, name)
	}
	return fmt.Errorf("%w: more than %d mailboxes", errProtocol, maxMailboxes)
}

// parseSum takes a hash in hexadecimal.
func parseSum(text string) (chain.Sum, error) {
	if !isSum(text) {
		return chain.Sum{}, fmt.Errorf("%w: sum %q", errProtocol, text)
	}
	var sum chain.Sum
	_, err := hex.Decode(sum[:], []byte(text))
	return sum, err
}

// nameless makes a file that goes with its descriptor.
func nameless(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".anycastle-manifest-*")
	if err != nil {
		return nil, fmt.Errorf("make file for a manifest: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make file for a manifest: %w", err), f.Close())
	}
	return f, nil
}
