package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anycastle/internal/proctest"
)

const (
	restoreMessages = 100_000
	restorePeople   = 100
	restoreRounds   = 20
)

// BenchmarkStoreRestore puts single messages back into a LUN of 100,000, each with its UID.
func BenchmarkStoreRestore(b *testing.B) {
	b.Run("restore-one-of-100000", func(b *testing.B) {
		w := newWorld(b, plan{alone: true, people: restorePeople, disk: 2 << 30})
		w.plant(restoreMessages / restorePeople)
		w.start()
		run := w.path("run-east-store1-store")
		proctest.Eventually(b, "the LUN is read", func() bool {
			var list []struct {
				Messages int64 `json:"messages"`
			}
			return w.ask(b.Context(), "east-store1-store", "/v1/lun", &list) == nil && len(list) == 1 && list[0].Messages == restoreMessages
		})
		begun := time.Now()
		text, err := tool(binary, "lun", "snapshot", "lun-east", "--run-dir", run, "-o", "json")
		proctest.Check(b, err)
		b.ReportMetric(time.Since(begun).Seconds(), "snapshot_s")
		var snapshot struct {
			ID string `json:"id"`
		}
		proctest.Check(b, json.Unmarshal([]byte(text), &snapshot))
		var took []time.Duration
		for n := range restoreRounds {
			took = append(took, w.restoreOne(b, run, snapshot.ID, mailbox("lun-east", n), uint32(1+37*n)))
		}
		(&bench{b: b}).rounds(b, took)
		b.ReportMetric(restoreMessages, "messages")
	})
}

// restoreOne expunges a message, restores it, and looks at it as a client. It gives how long the order took.
func (w *world) restoreOne(b *testing.B, run, snapshot, user string, uid uint32) time.Duration {
	b.Helper()
	c, err := dialIMAP(w.clients, w.hosts["east-front"].addr.String()+":993", user, patience)
	proctest.Check(b, err)
	defer c.close()
	_, err = c.selectFolder("INBOX")
	proctest.Check(b, err)
	look := func() string {
		r, err := c.do("UID FETCH %d (UID BODY.PEEK[])", uid)
		proctest.Check(b, err)
		if len(r.untagged) == 0 {
			return ""
		}
		return fetchedForm.ReplaceAllString(r.untagged[0], "")
	}
	was := look()
	_, err = c.do("UID STORE %d +FLAGS (\\Deleted)", uid)
	proctest.Check(b, err)
	_, err = c.do("UID EXPUNGE %d", uid)
	proctest.Check(b, err)
	if now := look(); was == "" || now != "" {
		b.Fatalf("UID %d of %s was %q before it was expunged and is %q after", uid, user, was, now)
	}
	begun := time.Now()
	_, err = tool(binary, "lun", "restore", "lun-east", user, "--folder", "INBOX", "--uid", fmt.Sprint(uid), "--snapshot", snapshot, "--run-dir", run)
	took := time.Since(begun)
	proctest.Check(b, err)
	_, err = c.selectFolder("INBOX")
	proctest.Check(b, err)
	if now := look(); now != was {
		b.Errorf("UID %d of %s was %q and is %q", uid, user, was, now)
	}
	return took
}

// plant writes a tree for the store of east, so many messages to a mailbox, as another server could have left it.
func (w *world) plant(each int) {
	w.t.Helper()
	for n := range w.people {
		user := mailbox("lun-east", n)
		at := filepath.Join(w.disks["east-store1"].at, user)
		for _, sub := range []string{"tmp", "new", "cur"} {
			proctest.Check(w.t, os.MkdirAll(filepath.Join(at, sub), 0o700))
		}
		list := fmt.Sprintf("3 V1700000000 N%d G%032x\n", each+1, n+1)
		for uid := 1; uid <= each; uid++ {
			id := fmt.Sprintf("<%d.%d@chaos.example>", n, uid)
			text := Seal(id, "x@example.net", user, fmt.Sprintf("message %d of %d\r\n", uid, each))
			base := fmt.Sprintf("1700000000.M%dP1Q%d.planted,S=%d,W=%d", n, uid, len(text), len(text))
			list += fmt.Sprintf("%d :%s\n", uid, base)
			proctest.Check(w.t, os.WriteFile(filepath.Join(at, "cur", base+":2,S"), text, 0o600))
		}
		proctest.Check(w.t, os.WriteFile(filepath.Join(at, "dovecot-uidlist"), []byte(list), 0o600))
	}
}
