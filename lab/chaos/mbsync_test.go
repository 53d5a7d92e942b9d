package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"anycastle/internal/proctest"
)

// synced is what mbsync did.
type synced struct{ before, again int }

// mbsyncAcross has mbsync fetch a mailbox through east, cuts east off with its active store, and has it fetch again through west.
func (x *bench) mbsyncAcross() (got synced) {
	x.b.Helper()
	to, rnd := mailbox("lun-east", 0), rand.New(rand.NewPCG(1, 4))
	for range 100 {
		_, text := x.l.message(stranger, to, rnd)
		proctest.Check(x.b, x.l.deliver(x.l.smtp[0], to, text))
	}
	x.calm()
	home := x.b.TempDir()
	first := x.mbsync(home, "east", to)
	c := &chaos{w: x.w}
	proctest.Check(x.b, c.cutSite("east", true))
	x.until(x.l.smtp[1], mailbox("lun-east", 1)) // the other site has taken over
	second := x.mbsync(home, "west", to)
	proctest.Check(x.b, c.cutSite("east", false))
	got.before = len(first)
	for name, at := range second {
		if was, ok := first[name]; !ok || !was.Equal(at) {
			got.again++
		}
	}
	if gone := len(first) + got.again - len(second); gone != 0 {
		x.b.Errorf("%d of %d messages are gone", gone, len(first))
	}
	return got
}

// mbsync fetches a mailbox through the front end of a site into a Maildir, and gives its files and their times.
func (x *bench) mbsync(home, site, user string) map[string]time.Time {
	x.b.Helper()
	rc := filepath.Join(home, "mbsyncrc")
	proctest.Check(x.b, os.WriteFile(rc, fmt.Appendf(nil, `IMAPAccount site
Host %s
Port 993
User %s
Pass %s
SSLType IMAPS
CertificateFile %s
Timeout 60

IMAPStore far
Account site

MaildirStore near
Path %s/mail/
Inbox %s/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX
Sync Pull
Create Near
SyncState *
`, x.w.hosts[site+"-front"].addr, user, password, x.w.path("tls/"+site+"-front/node.pem"), home, home), 0o600))
	proctest.Check(x.b, os.MkdirAll(filepath.Join(home, "mail"), 0o700))
	p := proctest.Start(x.b, x.w.clients.ns, "mbsync", home, "env", "HOME="+home, "mbsync", "-c", rc, "-a")
	if err := p.Wait(); err != nil {
		x.b.Fatalf("mbsync through %s: %v\n%s", site, err, p.Log())
	}
	files := map[string]time.Time{}
	for _, sub := range []string{"new", "cur"} {
		list, err := filepath.Glob(filepath.Join(home, "mail/INBOX", sub, "*"))
		proctest.Check(x.b, err)
		for _, f := range list {
			st, err := os.Stat(f)
			proctest.Check(x.b, err)
			name, _, _ := strings.Cut(filepath.Base(f), ":")
			files[name] = st.ModTime()
		}
	}
	return files
}
