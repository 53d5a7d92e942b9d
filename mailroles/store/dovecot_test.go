package store

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/google/go-cmp/cmp"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
	"anycastle/mailroles/maildir"
)

const dovecotConfig = `
base_dir = DIR/run
state_dir = DIR/state
protocols = imap
listen = 127.0.0.1
log_path = DIR/log
ssl = no
disable_plaintext_auth = no
default_login_user = dovenull
default_internal_user = dovecot
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:DIR/mail/%u
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=mail gid=mail home=DIR/home/%u allow_all_users=yes
}
namespace inbox {
  inbox = yes
  separator = .
}
service imap-login {
  inet_listener imap {
    port = 2143
  }
  inet_listener imaps {
    port = 0
  }
}
`

// dovecot is Debian's Dovecot on a copy of a LUN, in a namespace of its own.
type dovecot struct {
	*proctest.Process
	t    *testing.T
	ns   *netnstest.NS
	mail string // the copy
}

func startDovecot(t *testing.T, root string) *dovecot {
	t.Helper()
	ns := netnstest.New(t)
	dir, err := os.MkdirTemp("", "dovecot-") // others than root pass through it
	proctest.Check(t, err)
	t.Cleanup(func() { proctest.Check(t, os.RemoveAll(dir)) })
	proctest.Check(t, os.Chmod(dir, 0o755))
	for _, sub := range []string{"run", "state", "home"} {
		proctest.Check(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	d := &dovecot{t: t, ns: ns, mail: filepath.Join(dir, "mail")}
	for _, args := range [][]string{{"cp", "-a", root, d.mail}, {"chown", "-R", "mail:mail", d.mail, dir + "/home"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	config := filepath.Join(dir, "dovecot.conf")
	proctest.Check(t, os.WriteFile(config, []byte(strings.ReplaceAll(dovecotConfig, "DIR", dir)), 0o644))
	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil && t.Failed() {
			t.Logf("dovecot's log:\n%s", log)
		}
	})
	d.Process = proctest.Start(t, ns, "dovecot", dir, "dovecot", "-F", "-c", config)
	proctest.Eventually(t, "dovecot listens", func() bool {
		if d.Ended() {
			t.Fatalf("dovecot has ended: %s", d.Log())
		}
		conn, err := d.dial()
		return err == nil && conn.Close() == nil
	})
	return d
}

func (d *dovecot) dial() (conn net.Conn, err error) {
	d.ns.Do(func() error {
		conn, err = net.DialTimeout("tcp", "127.0.0.1:2143", 5*time.Second)
		return nil
	})
	return conn, err
}

func (d *dovecot) login() *imapclient.Client {
	d.t.Helper()
	conn, err := d.dial()
	proctest.Check(d.t, err)
	c := imapclient.New(conn, nil)
	d.t.Cleanup(func() { c.Close() })
	proctest.Check(d.t, c.Login(user, "secret").Wait())
	return c
}

// show tells what a client sees of all folders, as dumpForDovecot does.
func (d *dovecot) show(c *imapclient.Client) string {
	d.t.Helper()
	list, err := c.List("", "*", &imap.ListOptions{ReturnSubscribed: true}).Collect()
	proctest.Check(d.t, err)
	slices.SortFunc(list, func(a, b *imap.ListData) int { return strings.Compare(a.Mailbox, b.Mailbox) })
	var b strings.Builder
	for _, l := range list {
		if slices.Contains(l.Attrs, imap.MailboxAttrNoSelect) || slices.Contains(l.Attrs, imap.MailboxAttrNonExistent) {
			continue // a parent that there is not
		}
		data, err := c.Select(l.Mailbox, nil).Wait()
		proctest.Check(d.t, err)
		subscribed := slices.Contains(l.Attrs, imap.MailboxAttrSubscribed)
		fmt.Fprintf(&b, "%s subscribed %v, %d %d\n", l.Mailbox, subscribed, data.UIDValidity, data.UIDNext)
		if data.NumMessages == 0 {
			continue
		}
		whole := &imap.FetchItemBodySection{Peek: true}
		msgs, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{
			UID: true, Flags: true, InternalDate: true, RFC822Size: true, BodySection: []*imap.FetchItemBodySection{whole},
		}).Collect()
		proctest.Check(d.t, err)
		for _, m := range msgs {
			var flags []string
			for _, f := range m.Flags {
				if !strings.EqualFold(string(f), `\Recent`) {
					flags = append(flags, string(f))
				}
			}
			slices.Sort(flags)
			fmt.Fprintf(&b, "  %d %d %d %q %q\n", m.UID, m.RFC822Size, m.InternalDate.Unix(), flags, m.FindBodySection(whole))
		}
	}
	return b.String()
}

// dumpForDovecot tells what a mailbox has, with line ends as Dovecot sends them.
func dumpForDovecot(t *testing.T, m *Mailbox) string {
	t.Helper()
	names, err := m.Folders()
	proctest.Check(t, err)
	slices.Sort(names)
	subs, err := m.Subscriptions()
	proctest.Check(t, err)
	letters := map[maildir.Flags]string{
		maildir.Seen: `\Seen`, maildir.Answered: `\Answered`, maildir.Flagged: `\Flagged`,
		maildir.Deleted: `\Deleted`, maildir.Draft: `\Draft`,
	}
	var b strings.Builder
	for _, name := range names {
		f := folder(t, m, name)
		snap := f.Snapshot()
		fmt.Fprintf(&b, "%s subscribed %v, %d %d\n", name, slices.Contains(subs, name), snap.Validity, snap.Next)
		for _, msg := range snap.Messages {
			flags := slices.Clone(msg.Keywords)
			for letter, flag := range letters {
				if msg.Flags&letter != 0 {
					flags = append(flags, flag)
				}
			}
			slices.Sort(flags)
			file, err := f.Open(msg.UID)
			proctest.Check(t, err)
			text, err := io.ReadAll(file)
			proctest.Check(t, errors.Join(err, file.Close()))
			text = []byte(strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n", "\r\n"))
			fmt.Fprintf(&b, "  %d %d %d %q %q\n", msg.UID, msg.Wide, msg.Date.Unix(), flags, text)
		}
	}
	return b.String()
}

// fillForDovecot makes folders, messages and marks of all kinds, and moves and renames some.
func fillForDovecot(t *testing.T, m *Mailbox) {
	t.Helper()
	text := func(i int) string { return fmt.Sprintf("Subject: %d\r\n\r\ntext %d\r\n", i, i) }
	for i := range 40 {
		deliver(t, m, text(i))
	}
	for _, name := range []string{"Work", "Work.2024", "Entwürfe", "台北.日本語", "Tom & Jerry", "Old"} {
		proctest.Check(t, m.Create(name))
	}
	inbox := folder(t, m, "INBOX")
	for i := range 26 {
		proctest.Check(t, inbox.SetFlags([]uint32{uint32(i) + 1}, add(maildir.Seen, fmt.Sprintf("key%d", i))))
	}
	if err := inbox.SetFlags([]uint32{1}, add(0, "key26")); !errors.Is(err, ErrKeywords) {
		t.Errorf("27 keywords: %v, want ErrKeywords", err)
	}
	proctest.Check(t, inbox.SetFlags([]uint32{30, 31}, add(maildir.Answered|maildir.Flagged|maildir.Draft, "key3", "key25")))
	_, _, err := inbox.Move([]uint32{2, 3, 30}, "Entwürfe")
	proctest.Check(t, err)
	_, _, err = inbox.Copy([]uint32{4, 31}, "台北.日本語")
	proctest.Check(t, err)
	proctest.Check(t, inbox.SetFlags([]uint32{5, 6, 40}, add(maildir.Deleted)))
	proctest.Check(t, inbox.Expunge(func(uid uint32) bool { return uid != 6 }))
	bare := incoming("Subject: bare\n\nlines\nthat end\r\nin both ways\n")
	bare.Date, bare.Keywords = time.Unix(1500000000, 0), []string{"$Forwarded", "NonJunk"}
	_, err = folder(t, m, "Work.2024").Append(bare)
	proctest.Check(t, err)
	proctest.Check(t, m.Rename("Work", "Arbeit"))
	proctest.Check(t, m.Delete("Old"))
	for _, name := range []string{"INBOX", "Entwürfe", "Arbeit.2024", "台北.日本語"} {
		proctest.Check(t, m.Subscribe(name, true))
	}
	proctest.Check(t, m.Subscribe("Entwürfe", false))
}

// TestDovecotReadsTheTree compares what our clients see with what Dovecot makes of a copy of the tree; then Dovecot
// changes the copy, and we open that.
func TestDovecotReadsTheTree(t *testing.T) {
	root := tempRoot(t)
	s := open(t, root)
	fillForDovecot(t, box(t, s))
	want := dumpForDovecot(t, box(t, s))
	proctest.Check(t, s.Close())

	d := startDovecot(t, root)
	c := d.login()
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(d.show(c), "\n")); diff != "" {
		t.Fatalf("we (-) and Dovecot (+) differ:\n%s", diff)
	}

	text := "Subject: by Dovecot\r\n\r\nDovecot's own\r\n"
	for _, name := range []string{"INBOX", "Entwürfe"} {
		options := &imap.AppendOptions{Flags: []imap.Flag{imap.FlagFlagged, "key1"}, Time: time.Unix(1400000000, 0)}
		cmd := c.Append(name, int64(len(text)), options)
		_, err := io.WriteString(cmd, text)
		proctest.Check(t, errors.Join(err, cmd.Close()))
		_, err = cmd.Wait()
		proctest.Check(t, err)
	}
	_, err := c.Select("INBOX", nil).Wait()
	proctest.Check(t, err)
	store := func(uid imap.UID, op imap.StoreFlagsOp, flags ...imap.Flag) {
		t.Helper()
		proctest.Check(t, c.Store(imap.UIDSetNum(uid), &imap.StoreFlags{Op: op, Flags: flags, Silent: true}, nil).Close())
	}
	store(10, imap.StoreFlagsAdd, imap.FlagAnswered, "key7")
	store(11, imap.StoreFlagsDel, imap.FlagSeen, "key10")
	store(12, imap.StoreFlagsAdd, imap.FlagDeleted)
	proctest.Check(t, c.UIDExpunge(imap.UIDSetNum(12)).Close())
	proctest.Check(t, c.Create("Neu.Äpfel", nil).Wait())
	proctest.Check(t, c.Subscribe("Neu.Äpfel").Wait())
	_, err = c.Move(imap.UIDSetNum(13, 14), "Neu.Äpfel").Wait()
	proctest.Check(t, err)
	proctest.Check(t, c.Rename("Entwürfe", "Drafts", nil).Wait())
	want = d.show(d.login())
	proctest.Check(t, c.Logout().Wait())
	d.Stop()

	if out, err := exec.Command("chown", "-R", "root:root", d.mail).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v: %s", err, out)
	}
	s = open(t, d.mail)
	got := dumpForDovecot(t, box(t, s))
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("Dovecot (-) and we (+) differ:\n%s", diff)
	}
	if s.report.Adopted > 0 {
		t.Errorf("%d messages got other UIDs than Dovecot's", s.report.Adopted)
	}
	deliver(t, box(t, s), "afterwards")
	proctest.Check(t, s.Close())
}
