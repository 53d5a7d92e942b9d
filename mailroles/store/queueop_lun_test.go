package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// queueLUN is a LUN whose replicas have the operations that one proposes at once, unless they are cut off. It keeps the log
// for those that come back.
type queueLUN struct {
	t        *testing.T
	log      [][]byte
	replicas []*queueReplica
	leader   int
	led      bool  // somebody has led
	refuse   error // of Admit
	lost     error // of wait: the operation is done, and the one who proposed it does not hear of it
	alone    error // of Prove
	noPush   bool
	proved   []string
}

// queueReplica is one store. It journals for itself.
type queueReplica struct {
	lun  *queueLUN
	n    int
	root string
	s    *Store
	done int  // operations that the process has been told of
	cut  bool // it hears of nothing
}

func newQueueLUN(t *testing.T, replicas int) *queueLUN {
	t.Helper()
	l := &queueLUN{t: t}
	for n := range replicas {
		r := &queueReplica{lun: l, n: n, root: tempRoot(t)}
		l.replicas = append(l.replicas, r)
		r.open()
	}
	l.lead(0)
	return l
}

// lead has another replica lead.
func (l *queueLUN) lead(n int) {
	l.t.Helper()
	if old := l.replicas[l.leader]; old.s.Err() == nil {
		old.s.Follow()
	}
	l.leader, l.led = n, true
	r := l.replicas[n]
	if err := errors.Join(r.catchUp(), r.s.Lead()); err != nil {
		l.t.Fatal(err)
	}
}

// open starts the store: it does the operations since its checkpoint once more.
func (r *queueReplica) open() {
	t := r.lun.t
	t.Helper()
	s, err := OpenWith(Options{Root: r.root, Journal: r, Log: slog.New(slog.DiscardHandler), now: standstill})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r.s = s
	before := r.done
	r.done = int(s.Saved().Index)
	s.Expect(uint64(before))
	if r.lun.leader == r.n && r.lun.led {
		r.lun.lead(r.n)
	}
}

// catchUp does what the log has more.
func (r *queueReplica) catchUp() error {
	for r.done < len(r.lun.log) {
		r.done++ // it has been told of it, whatever comes
		if err := r.s.Apply(uint64(r.done), Sum{}, r.lun.log[r.done-1]); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the process.
func (r *queueReplica) stop() {
	r.lun.t.Helper()
	if err := r.s.lock.Close(); err != nil {
		r.lun.t.Fatal(err)
	}
}

// restart ends the process and starts it again.
func (r *queueReplica) restart() {
	r.lun.t.Helper()
	r.stop()
	r.open()
	if err := r.catchUp(); err != nil {
		r.lun.t.Fatal(err)
	}
}

func (r *queueReplica) leads() error {
	if r.lun.leader != r.n {
		return ErrPassive
	}
	return nil
}

// Admit, Push, Append, Prove, Fetch and Serving implement Journal.
func (r *queueReplica) Admit() error { return errors.Join(r.leads(), r.lun.refuse) }

func (r *queueReplica) Push(b Body) {
	for _, to := range r.lun.replicas {
		if to != r && !to.cut && !r.lun.noPush {
			if err := r.give(to, b); err != nil && to.s.files.fault == nil {
				r.lun.t.Errorf("push: %v", err)
			}
		}
	}
}

func (r *queueReplica) Append(record []byte) (func() (uint64, error), error) {
	if err := r.leads(); err != nil {
		return nil, err
	}
	r.lun.log = append(r.lun.log, record)
	index := uint64(len(r.lun.log))
	return func() (uint64, error) {
		for _, to := range r.lun.replicas {
			if to.cut {
				continue
			}
			if err := to.catchUp(); err != nil && !errors.Is(err, errCrash) && !errors.Is(err, ErrStopped) {
				r.lun.t.Errorf("apply: %v", err)
			}
		}
		return index, r.lun.lost
	}, nil
}

func (r *queueReplica) Prove(index uint64, bodies []Body) error {
	for _, b := range bodies {
		r.lun.proved = append(r.lun.proved, fmt.Sprint(index, " ", b.Name))
	}
	return r.lun.alone
}

func (r *queueReplica) Fetch(_ context.Context, b Body) error {
	for _, from := range r.lun.replicas {
		if from != r && !from.cut && from.give(r, b) == nil {
			return nil
		}
	}
	return ErrMissing
}

func (r *queueReplica) Serving() error { return r.leads() }

// give copies a body to another replica, as the stores do over the network.
func (r *queueReplica) give(to *queueReplica, b Body) error {
	f, err := r.s.OpenBody(b)
	if err != nil {
		return err
	}
	return errors.Join(to.s.TakeBody(b, f), f.Close())
}

// keeper gives the queue of the replica that leads.
func (l *queueLUN) keeper() *QueueKeeper { return l.replicas[l.leader].s.QueueKeeper() }

// queueID makes an id, such as package queue does.
func queueID(n int) string {
	return fmt.Sprintf("%014x%08d", time.Unix(1700000000, 0).UnixMicro()+int64(n), n)
}

// queueEnvelope makes an envelope of a body.
func queueEnvelope(id, body, more string) (text []byte, sum string) {
	hash := sha256.Sum256([]byte(body))
	sum = hex.EncodeToString(hash[:])
	return withSum(fmt.Sprintf(`{"id":%q,"sum":%q,"size":%d,"more":%q}`, id, sum, len(body), more)), sum
}

// withSum puts the checksum before the text of an envelope.
func withSum(text string) []byte {
	hash := sha256.Sum256([]byte(text))
	return []byte(hex.EncodeToString(hash[:]) + "\n" + text)
}

func queueText(n int) string {
	return fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", n, strings.Repeat("x", n))
}

// add queues a message.
func (l *queueLUN) add(n int) (kept bool, err error) {
	id, body := queueID(n), queueText(n)
	if err := l.keeper().PutBody(id, strings.NewReader(body)); err != nil {
		return false, err
	}
	text, sum := queueEnvelope(id, body, "new")
	return l.keeper().Add(id, text, sum, int64(len(body)))
}

func (l *queueLUN) change(n int, more string) error {
	text, _ := queueEnvelope(queueID(n), queueText(n), more)
	return l.keeper().Change(queueID(n), text)
}

// queueDump tells all that a replica has of the queue: what its memory says, and its files.
func queueDump(t *testing.T, s *Store) string {
	t.Helper()
	_, sum, err := s.queueDigest()
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{"digest " + sum.String()}
	for _, dir := range []string{queueEntryDir, queueDoneDir, queueBodyDir, queueAsideDir, incomingDir} {
		files, err := os.ReadDir(s.files.at(dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, f := range files {
			path := filepath.Join(dir, f.Name())
			text, err := os.ReadFile(s.files.at(path))
			if err != nil {
				t.Fatal(err)
			}
			since := ""
			if dir == queueDoneDir {
				st, err := f.Info()
				if err != nil {
					t.Fatal(err)
				}
				since = fmt.Sprint(st.ModTime().Unix())
			}
			lines = append(lines, fmt.Sprintf("%s %s %q", path, since, text))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// loaded gives what a queue would be opened with.
func loaded(t *testing.T, k *QueueKeeper) (entries map[string]string, done map[string]time.Time) {
	t.Helper()
	entries, done = map[string]string{}, map[string]time.Time{}
	type found struct{ id, text string }
	list := make(chan found, 1000)
	aside, err := k.Load(func(id string, text []byte, body int64) error {
		list <- found{id, string(text)}
		return nil
	}, func(id string, text []byte, since time.Time) bool {
		done[id] = since
		return true
	})
	close(list)
	if err != nil || aside != 0 {
		t.Errorf("load: %d of no use, %v", aside, err)
	}
	for f := range list {
		entries[f.id] = f.text
	}
	return entries, done
}

func readBody(t *testing.T, k *QueueKeeper, n int) (string, error) {
	t.Helper()
	f, err := k.OpenBody(t.Context(), queueID(n), int64(len(queueText(n))))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(f)
	return string(text), errors.Join(err, f.Close())
}
