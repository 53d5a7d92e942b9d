package mailroles_test

import (
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

func TestFolders(t *testing.T) {
	s := newSite(t)
	s.runAll()
	if err := s.send("x@example.org", []string{alice}, greeting); err != nil {
		t.Fatal(err)
	}
	c := s.login(alice, nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Create("Entwürfe", nil).Wait())
	must(c.Create("Work.2024", nil).Wait())
	must(c.Create("Work", nil).Wait())
	must(c.Subscribe("Work").Wait())
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	copied, err := c.Copy(imap.SeqSetNum(1), "Work.2024").Wait()
	must(err)
	if _, err := c.Move(imap.SeqSetNum(1), "Entwürfe").Wait(); err != nil {
		t.Fatal(err)
	}
	must(c.Rename("Work", "Old", nil).Wait())
	must(c.Delete("Old").Wait())
	if err := c.Delete("INBOX").Wait(); err == nil {
		t.Error("INBOX was deleted")
	}
	list, err := c.List("", "*", nil).Collect()
	must(err)
	var names []string
	for _, l := range list {
		names = append(names, l.Mailbox)
	}
	if got := strings.Join(names, " "); got != "INBOX Entwürfe Old.2024" {
		t.Errorf("folders are %s", got)
	}
	status, err := c.Status("Old.2024", &imap.StatusOptions{NumMessages: true, NumUnseen: true, UIDValidity: true, Size: true}).Wait()
	must(err)
	if *status.NumMessages != 1 || *status.NumUnseen != 1 || status.UIDValidity != copied.UIDValidity || *status.Size < int64(len(greeting)) {
		t.Errorf("status of the copy's folder = %+v, copied to UIDVALIDITY %d", status, copied.UIDValidity)
	}
	sel, err := c.Select("Entwürfe", nil).Wait()
	must(err)
	if sel.NumMessages != 1 {
		t.Errorf("moved-to folder holds %d", sel.NumMessages)
	}
	must(s.send("x@example.org", []string{alice}, greeting+"again\r\n"))
	must(c.Rename("inbox", "Archive", nil).Wait())
	for name, want := range map[string]uint32{"INBOX": 0, "Archive": 1} {
		if sel, err = c.Select(name, nil).Wait(); err != nil || sel.NumMessages != want {
			t.Errorf("after INBOX was renamed %s is %+v, %v", name, sel, err)
		}
	}
}

func TestSearch(t *testing.T) {
	s := newSite(t)
	s.runAll()
	if err := s.send("x@example.org", []string{alice}, greeting); err != nil {
		t.Fatal(err)
	}
	c := s.login(alice, nil)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{
		Header:  []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "HELL"}},
		Body:    []string{"hello."},
		NotFlag: []imap.Flag{imap.FlagSeen},
		Not:     []imap.SearchCriteria{{Text: []string{"nowhere"}}},
	}, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if got := found.AllUIDs(); len(got) != 1 || got[0] != 1 {
		t.Errorf("search found %v, want 1", got)
	}
	none, err := c.Search(&imap.SearchCriteria{Larger: 1 << 20}, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if got := none.AllSeqNums(); len(got) != 0 {
		t.Errorf("search found %v, want none", got)
	}
}
