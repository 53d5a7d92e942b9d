package store

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"anycastle/mailroles/maildir"
)

// childRoot names, for a process that is to be killed, the LUN that it works on.
const childRoot = "ANYCASTLE_TEST_STORE"

func TestMain(m *testing.M) {
	if root := os.Getenv(childRoot); root != "" {
		if err := work(root, os.Getenv(childRoot+"_RUN"), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Each message goes through these steps; what it is after each of them is in fates.
var (
	steps = []func(m *Mailbox, name string, uid *uint32) error{
		func(m *Mailbox, name string, uid *uint32) error {
			f, err := m.Folder("INBOX")
			if err != nil {
				return err
			}
			place, err := f.Append(incoming(name))
			*uid = place.UID
			return err
		},
		func(m *Mailbox, _ string, uid *uint32) error { return flag(m, "INBOX", *uid, maildir.Seen, "$Junk") },
		func(m *Mailbox, _ string, uid *uint32) error {
			f, err := m.Folder("INBOX")
			if err != nil {
				return err
			}
			_, pairs, err := f.Move([]uint32{*uid}, "Work")
			if err == nil {
				*uid = pairs[0].To
			}
			return err
		},
		func(m *Mailbox, _ string, uid *uint32) error { return flag(m, "Work", *uid, maildir.Deleted) },
		func(m *Mailbox, _ string, uid *uint32) error {
			f, err := m.Folder("Work")
			if err != nil {
				return err
			}
			mine := *uid
			return f.Expunge(func(uid uint32) bool { return uid == mine })
		},
	}
	fates = []string{"", "INBOX  []", "INBOX S [$Junk]", "Work S [$Junk]", "Work ST [$Junk]", ""}
)

// work changes a LUN without an end, and tells each thing that is acknowledged: "NAME STEP UID".
func work(root, run string, out io.Writer) error {
	s, err := Open(root, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, 10)
	for w := range 6 {
		m, err := s.Mailbox(fmt.Sprintf("user%d@example.org", w%2))
		if err != nil {
			return err
		}
		if err := m.Create("Work"); err != nil && run == "0" && w < 2 {
			return err
		}
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d/%s/%d/%d", w%2, run, w, i)
				var uid uint32
				for step := range 1 + i%len(steps) {
					if err := steps[step](m, name, &uid); err != nil {
						errs <- err
						return
					}
					fmt.Fprintf(out, "%s %d %d\n", name, step+1, uid)
				}
			}
		})
	}
	wg.Go(func() {
		for {
			if err := s.Checkpoint(); err != nil {
				errs <- err
				return
			}
		}
	})
	return <-errs
}

// TestKill kills a process that works with all its might, several times, and looks for all that it acknowledged.
func TestKill(t *testing.T) {
	root := tempRoot(t)
	type told struct {
		step int
		uid  string
	}
	acknowledged := map[string]told{}
	for run := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childRoot+"="+root, fmt.Sprintf("%s_RUN=%d", childRoot, run))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var name string
			var a told
			if _, err := fmt.Sscan(lines.Text(), &name, &a.step, &a.uid); err != nil {
				t.Fatalf("child says %q: %v", lines.Text(), err)
			}
			acknowledged[name] = a
			if n == 500+100*run {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
			t.Fatalf("child ends with %v: %s", err, stderr.String())
		}
		s := openAt(t, root, nil)
		if r := s.report; r.Lost+r.Odd+r.Adopted+len(r.Damage) > 0 {
			t.Errorf("run %d: report %+v", run, r)
		}
		found, uids := findAll(t, s)
		for name, a := range acknowledged {
			now := found[name]
			same := now == fates[a.step] && (now == "" || uids[name] == a.uid)
			next := mayGoOn(name, run, a.step) && now == fates[a.step+1]
			if !same && !next {
				t.Errorf("run %d: %s is %q with UID %s; step %d was acknowledged with UID %s", run, name, now, uids[name], a.step, a.uid)
			}
			if next && !same {
				acknowledged[name] = told{a.step + 1, uids[name]}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// findAll gives the folder and marks, and the UID, of each message by its text.
func findAll(t *testing.T, s *Store) (found, uids map[string]string) {
	t.Helper()
	found, uids = map[string]string{}, map[string]string{}
	for box := range 2 {
		m, err := s.Mailbox(fmt.Sprintf("user%d@example.org", box))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"INBOX", "Work"} {
			for line := range strings.Lines(showAll(t, folder(t, m, name))) {
				uid, rest, _ := strings.Cut(strings.TrimSpace(line), "|")
				marks, text, _ := strings.Cut(rest, "|")
				if found[text] != "" {
					t.Errorf("%s is there twice", text)
				}
				found[text], uids[text] = name+" "+marks, uid
			}
		}
	}
	return found, uids
}

// mayGoOn reports whether a message may have been on its way to its next step when the run ended.
func mayGoOn(name string, run, step int) bool {
	parts := strings.Split(name, "/")
	i, err := strconv.Atoi(parts[3])
	return err == nil && parts[1] == strconv.Itoa(run) && step < 1+i%len(steps)
}

// showAll gives a folder as "UID|flags [keywords]|text" lines.
func showAll(t *testing.T, f *Folder) string {
	t.Helper()
	var b strings.Builder
	for _, m := range f.Snapshot().Messages {
		file, err := f.Open(m.UID)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d|%s %s|%s\n", m.UID, m.Flags, m.Keywords, text)
	}
	return b.String()
}
