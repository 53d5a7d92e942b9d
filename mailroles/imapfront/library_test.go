package imapfront

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// library is a client that people use: it searches, appends, fetches, stores and idles.
func (l *load) library(t *testing.T) {
	t.Helper()
	c, err := imapclient.DialTLS(l.rig.addr, &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(alice, secret).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	count := &atomic.Int64{}
	l.steps = append(l.steps, count)
	l.working.Go(func() {
		for n := 0; !l.stop.Load(); n++ {
			if err := l.librarySteps(c, n); err != nil {
				t.Errorf("library's client, round %d: %v", n, err)
				return
			}
			count.Add(1)
		}
	})
}

func (l *load) librarySteps(c *imapclient.Client, n int) error {
	text := fmt.Sprintf("Message-ID: <lib%d@x>\r\n\r\nhello\r\n", n)
	a := c.Append("INBOX", int64(len(text)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, "fresh"}})
	if _, err := io.WriteString(a, text); err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return err
	}
	data, err := a.Wait()
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	l.appended.Add(1)
	found, err := c.UIDSearch(&imap.SearchCriteria{
		Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: fmt.Sprintf("<lib%d@x>", n)}},
	}, nil).Wait()
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	if uids := found.AllUIDs(); len(uids) != 1 || uids[0] != data.UID {
		return fmt.Errorf("found %v, want the new message %d", uids, data.UID)
	}
	idle, err := c.Idle()
	if err != nil {
		return fmt.Errorf("idle: %w", err)
	}
	if err := cmp.Or(idle.Close(), idle.Wait()); err != nil {
		return fmt.Errorf("end idle: %w", err)
	}
	got, err := c.Fetch(imap.UIDSetNum(data.UID), &imap.FetchOptions{Flags: true, BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	if len(got) != 1 || string(got[0].FindBodySection(&imap.FetchItemBodySection{})) != text || !slices.Contains(got[0].Flags, "fresh") {
		return fmt.Errorf("fetched %d messages, or another than the new one", len(got))
	}
	return nil
}
