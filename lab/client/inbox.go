package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// readTime bounds the reading of one mailbox, which may hold tens of thousands of messages.
const readTime = time.Minute

// readInbox opens the INBOX of a mailbox for reading and hands it to f, with the number of its messages.
func readInbox(ctx context.Context, cfg Config, p Pod, box Account, f func(c *imapclient.Client, n uint32) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	c, err := dialIMAP(ctx, cfg, p)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close() // after a LOGOUT there is nothing to close
	defer func() { err = inTime(ctx, err) }()
	if err := c.Login(box.Address, box.Password).Wait(); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	sel, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return fmt.Errorf("open INBOX: %w", err)
	}
	if err := f(c, sel.NumMessages); err != nil {
		return err
	}
	return c.Logout().Wait()
}

func dialIMAP(ctx context.Context, cfg Config, p Pod) (*imapclient.Client, error) {
	conf := tlsFor(cfg.TLS, p, ServiceIMAP)
	if p.IMAPS.IsValid() {
		conn, err := dial(ctx, nil, p.IMAPS, readTime)
		if err != nil {
			return nil, err
		}
		return imapclient.New(tls.Client(conn, conf), nil), nil
	}
	if !p.IMAP.IsValid() {
		return nil, errors.New("no IMAP VIP is known")
	}
	conn, err := dial(ctx, nil, p.IMAP, readTime)
	if err != nil {
		return nil, err
	}
	c, err := imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: conf})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("STARTTLS: %w", err)
	}
	return c, nil
}

// readIDs gives the Message-IDs of a mailbox's INBOX in the order of its messages; empty where there is none.
func readIDs(ctx context.Context, cfg Config, p Pod, box Account) (ids []string, err error) {
	err = readInbox(ctx, cfg, p, box, func(c *imapclient.Client, n uint32) (err error) {
		ids, err = fetchIDs(c, n)
		return err
	})
	return ids, err
}

func fetchIDs(c *imapclient.Client, n uint32) ([]string, error) {
	ids := make([]string, 0, n)
	if n == 0 {
		return ids, nil
	}
	// nothing else is asked for: with tens of thousands of messages that is what makes it fast
	section := &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"Message-ID"}, Peek: true}
	err := fetchSections(c, imap.SeqSet{{Start: 1, Stop: 0}}, section, func(text []byte) {
		_, rest, _ := bytes.Cut(text, []byte("<"))
		id, _, _ := bytes.Cut(rest, []byte(">"))
		ids = append(ids, string(id))
	})
	return ids, err
}

// fetchSections hands a section of each message to f.
func fetchSections(c *imapclient.Client, set imap.SeqSet, section *imap.FetchItemBodySection, f func(text []byte)) error {
	fetch := c.Fetch(set, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}})
	defer fetch.Close()
	for m := fetch.Next(); m != nil; m = fetch.Next() {
		for item := m.Next(); item != nil; item = m.Next() {
			body, ok := item.(imapclient.FetchItemDataBodySection)
			if !ok {
				continue
			}
			text, err := io.ReadAll(body.Literal)
			if err != nil {
				return fmt.Errorf("fetch: %w", err)
			}
			f(text)
		}
	}
	if err := fetch.Close(); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	return nil
}

// RoundTrip sends a message of size bytes through the SMTP VIP with STARTTLS, reads it back through the IMAP VIP and
// compares. It gives the message's length; an error when even one byte differs.
func RoundTrip(ctx context.Context, cfg Config, p Pod, box Account, size int) (int, error) {
	id := rand.Text() + "@" + domain(stranger)
	msg := compose(id, stranger, box.Address, size)
	h := handover{addr: p.SMTP, conf: tlsFor(cfg.TLS, p, ServiceSMTP), from: stranger}
	if _, err := h.send(ctx, box.Address, msg); err != nil {
		return 0, fmt.Errorf("send through %s: %w", p.SMTP, err)
	}
	err := readInbox(ctx, cfg, p, box, func(c *imapclient.Client, n uint32) error {
		ids, err := fetchIDs(c, n)
		if err != nil {
			return err
		}
		at := slices.Index(ids, id)
		if at < 0 {
			return fmt.Errorf("message %s was acknowledged and is not in the mailbox", id)
		}
		same := false
		err = fetchSections(c, imap.SeqSetNum(uint32(at+1)), &imap.FetchItemBodySection{Peek: true}, func(text []byte) {
			same = bytes.HasSuffix(text, msg)
		})
		if err == nil && !same {
			err = fmt.Errorf("message %s came back changed", id)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", box.Address, err)
	}
	return len(msg), nil
}
