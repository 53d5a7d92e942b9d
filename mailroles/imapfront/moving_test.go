package imapfront

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/argon2"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/porttest"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/imapd"
	"anycastle/mailroles/store"
	"anycastle/mailroles/tally"
)

// wandering is a LUN whose store moves: it ends at its address, and another opens the same tree there.
type wandering struct {
	t      testing.TB
	root   string
	addr   string
	dir    *directory.Directory
	link   *tls.Config
	mail   *store.Store
	server *imapd.Server
	end    func() // of the server and the store
}

func newWandering(t testing.TB, link *tls.Config) *wandering {
	t.Helper()
	w := &wandering{t: t, root: t.TempDir(), addr: porttest.Free(t, "127.0.0.1").String(), link: link}
	b64 := base64.RawStdEncoding.EncodeToString
	salt := []byte("saltsaltsaltsalt")
	hash := "$argon2id$v=19$m=8,t=1,p=1$" + b64(salt) + "$" + b64(argon2.IDKey([]byte(secret), salt, 1, 8, 1, 32))
	file := filepath.Join(t.TempDir(), "mailboxes.yml")
	text := fmt.Sprintf("mailboxes:\n  - {address: %s, password: %q, lun: lun-east}\n", alice, hash)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.dir, err = directory.Open(directory.Config{File: file}, []string{"lun-east", "lun-west"}, nil); err != nil {
		t.Fatal(err)
	}
	w.begin()
	t.Cleanup(func() { w.end() })
	return w
}

// begin opens the store at the LUN's address.
func (w *wandering) begin() {
	w.t.Helper()
	var err error
	if w.mail, err = store.Open(w.root, nil); err != nil {
		w.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = imapd.NewServer(imapd.Options{
		LUN: "lun-east", Directory: w.dir, Mail: w.mail, LinkTLS: w.link, MaxSize: 1 << 20, MaxSessions: 100,
		Log: slog.New(slog.DiscardHandler), Tally: &tally.Tally{},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Run(ctx, ln) }()
	w.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		if err := w.mail.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

// move takes the LUN to another store, and gives how long nobody was served.
func (w *wandering) move() time.Duration {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begun := time.Now()
	release := w.server.Hold(ctx)
	if ctx.Err() != nil {
		w.t.Error("sessions stay though they are to move")
	}
	w.end()
	release()
	w.begin()
	return time.Since(begun)
}

// newMovingRig has alice's LUN wander.
func newMovingRig(t testing.TB, change func(*Options)) (*rig, *wandering) {
	t.Helper()
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWandering(t, material.Server())
	return newRig(t, func(o *Options) {
		o.LUNs["lun-east"], o.LinkTLS = netip.MustParseAddrPort(w.addr), material.ClientOfAny()
		if change != nil {
			change(o)
		}
	}), w
}

// user logs alice in to a real store.
func (r *rig) user() *side {
	r.t.Helper()
	s := r.connect()
	s.write("l LOGIN " + alice + " " + secret + "\r\n")
	s.answer("l", func(string) {})
	return s
}

// answer reads lines up to the answer of a command, which must be OK.
func (s *side) answer(tag string, each func(line string)) string {
	s.t.Helper()
	for {
		line := s.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				s.t.Fatalf("%s is answered with %q", tag, rest)
			}
			return rest
		}
		each(line)
	}
}

func (s *side) line() string {
	s.t.Helper()
	s.conn.SetDeadline(time.Now().Add(patience))
	line, err := s.br.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%q, %v", line, err)
	}
	line = strings.TrimRight(line, "\r\n")
	if strings.Contains(line, "ANYCASTLE") || strings.HasPrefix(line, "* BYE") || strings.HasPrefix(line, "* BAD") {
		s.t.Fatalf("client hears %q", line)
	}
	return line
}

// load is what clients do while the LUN moves.
type load struct {
	rig      *rig
	stop     atomic.Bool
	working  sync.WaitGroup
	steps    []*atomic.Int64 // of each client
	appended atomic.Int64
	expunged atomic.Int64
}

// client runs one until the load ends.
func (l *load) client(each func(s *side) func(n int)) {
	count := &atomic.Int64{}
	l.steps = append(l.steps, count)
	s := l.rig.user()
	step := each(s)
	l.working.Go(func() {
		for n := 0; !l.stop.Load(); n++ {
			step(n)
			count.Add(1)
		}
	})
}

// progress waits until each client has done some steps more.
func (l *load) progress(t *testing.T) {
	t.Helper()
	before := make([]int64, len(l.steps))
	for i, s := range l.steps {
		before[i] = s.Load()
	}
	waitFor(t, func() bool {
		for i, s := range l.steps {
			if s.Load() < before[i]+2 {
				return t.Failed()
			}
		}
		return true
	})
}

// appends stores messages, whose literals go with and without consent, and in pieces.
func (l *load) appends(s *side) func(int) {
	return func(n int) {
		text := fmt.Sprintf("Message-ID: <%d@x>\r\n\r\n%s\r\n", n, strings.Repeat("text ", n%2000))
		if n%2 == 0 {
			s.write(fmt.Sprintf("a%d APPEND INBOX {%d}\r\n", n, len(text)))
			if line := s.line(); !strings.HasPrefix(line, "+") {
				s.t.Fatalf("consent is %q", line)
			}
		} else {
			s.write(fmt.Sprintf("a%d APPEND INBOX {%d+}\r\n", n, len(text)))
		}
		for len(text) > 0 {
			k := min(len(text), 1+n%3000)
			s.write(text[:k])
			text = text[k:]
		}
		s.write("\r\n")
		if got := s.answer(fmt.Sprintf("a%d", n), func(string) {}); !strings.Contains(got, "APPENDUID") {
			s.t.Errorf("append %d: %s", n, got)
		}
		l.appended.Add(1)
	}
}

// changes says commands in one piece.
func (l *load) changes(s *side) func(int) {
	s.write("s SELECT INBOX\r\n")
	s.answer("s", func(string) {})
	return func(n int) {
		uid := n/4 + 1
		s.write(fmt.Sprintf("a%d NOOP\r\nb%d UID STORE %d:%d +FLAGS (\\Flagged)\r\nc%d UID STORE 1:%d -FLAGS.SILENT (\\Flagged)\r\n"+
			"d%d UID STORE %d +FLAGS (\\Deleted)\r\ne%d UID FETCH 1:* BODY.PEEK[]\r\nf%d EXPUNGE\r\n", n, n, uid, uid+5, n, max(1, uid/2), n, uid, n, n))
		for _, tag := range []string{"a", "b", "c", "d", "e", "f"} {
			s.answer(fmt.Sprint(tag, n), func(line string) {
				if strings.HasSuffix(line, " EXPUNGE") {
					l.expunged.Add(1)
				}
			})
		}
	}
}

// watches idles, again and again, and asks only for what is new to it.
func (l *load) watches(p *picture) func(s *side) func(int) {
	return func(s *side) func(int) {
		p.s = s
		s.write("s SELECT INBOX\r\n")
		s.answer("s", p.hear)
		return func(n int) {
			tag := fmt.Sprintf("idle%d", n)
			s.write(tag + " IDLE\r\n")
			for line := ""; !strings.HasPrefix(line, "+"); {
				line = s.line()
				p.hear(line)
			}
			p.hear(s.line()) // others work: something comes
			s.write("DONE\r\n")
			s.answer(tag, p.hear)
			p.learn()
		}
	}
}

// TestLUNMovesUnderLoad moves a LUN ten times while clients append, change, expunge, read and idle. None may see a command
// fail, and in the end each must know of everything from what it was told.
func TestLUNMovesUnderLoad(t *testing.T) {
	r, w := newMovingRig(t, nil)
	l := &load{rig: r}
	pictures := []*picture{{t: t}, {t: t}}
	l.client(l.appends)
	l.progress(t)
	long := r.user() // idles all the time, in one IDLE
	lasting := &picture{t: t}
	long.write("s EXAMINE INBOX\r\n")
	long.answer("s", lasting.hear)
	long.write("long IDLE\r\n")
	l.library(t)
	l.client(l.changes)
	for _, p := range pictures {
		l.client(l.watches(p))
	}
	var worst time.Duration
	for range 10 {
		l.progress(t)
		worst = max(worst, w.move())
	}
	l.progress(t)
	l.stop.Store(true)
	l.working.Wait()
	long.write("DONE\r\n")
	long.answer("long", func(line string) {
		if !strings.HasPrefix(line, "+") {
			lasting.hear(line)
		}
	})

	fresh := &picture{t: t}
	s := r.user()
	s.write("s EXAMINE INBOX\r\nf FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (Message-ID)])\r\n")
	s.answer("s", fresh.hear)
	ids := map[string]int{}
	s.answer("f", func(line string) {
		if strings.HasPrefix(line, "Message-ID:") {
			ids[line]++
		}
	})
	s.write("g FETCH 1:* (UID FLAGS)\r\n")
	s.answer("g", fresh.hear)
	for id, n := range ids {
		if n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if want := l.appended.Load() - l.expunged.Load(); int64(len(ids)) != want || len(fresh.known) != len(ids) {
		t.Errorf("%d messages in a folder of %d, want %d: %d came and %d were expunged",
			len(ids), len(fresh.known), want, l.appended.Load(), l.expunged.Load())
	}
	if len(lasting.known) != len(fresh.known) {
		t.Errorf("who idled all the time knows of %d messages, want %d", len(lasting.known), len(fresh.known))
	}
	t.Logf("%d appended, %d expunged, a move took %v at most", l.appended.Load(), l.expunged.Load(), worst)
	for i, p := range pictures {
		p.s.write("z NOOP\r\n")
		p.s.answer("z", p.hear)
		p.learn()
		if diff := cmp.Diff(fresh.known, p.known, cmp.AllowUnexported(known{})); diff != "" {
			t.Errorf("watcher %d knows other things: %s", i, diff)
		}
	}
	if c := r.tally.Counts(); c.Rejects["not-moved"] != 0 {
		t.Errorf("counts are %v", c.Rejects)
	}
}
