package group

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"anycastle/mailroles/replica/chain"
)

// A directory has generations: numbered directories below it, of which the last one that is ready counts. Seeding makes
// a new one beside the old, so that a crash leaves either.
//
//	lock                held while the group is open
//	N/ready             this generation is whole
//	N/blank             why it must not be used any more
//	N/votes             ballot, in slots
//	N/marker            note, in slots
//	N/watermark         see watermark
//	N/wal/segments      the list of the log's files, in slots
//	N/wal/*.wal         the log

// Base is what a blank member needs besides the state; see Group.Base.
type base struct {
	Note   note
	Ballot ballot // the leader's term and name: the new member votes for nobody else in that term
}

// holdDir takes the lock of a directory, which is made if need be. close lets it go.
func holdDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, cause("make the directory of the log", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, cause("lock the log", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s is in use: %w", ErrDisk, dir, err), f.Close())
	}
	return f, nil
}

// generations gives the numbers of those in a directory, ready or not.
func generations(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var found []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 && e.IsDir() {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found, nil
}

// current gives the directory of the generation that counts, empty if there is none.
func current(dir string) (string, error) {
	found, err := generations(dir)
	if err != nil {
		return "", cause("read the directory of the log", err)
	}
	for _, n := range slices.Backward(found) {
		gen := filepath.Join(dir, strconv.Itoa(n))
		if _, err := os.Stat(filepath.Join(gen, "ready")); err == nil {
			return gen, nil
		}
	}
	return "", nil
}

// Initialized says whether the directory belongs to a member of a group, or did before it was damaged.
func Initialized(dir string) bool {
	gen, err := current(dir)
	return err != nil || gen != ""
}

// create makes a new generation the current one, and removes the others.
func create(dir string, b base) error {
	lock, err := holdDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	old, err := generations(dir)
	if err != nil {
		return cause("read the directory of the log", err)
	}
	next := 1
	if len(old) > 0 {
		next = old[len(old)-1] + 1
	}
	gen := filepath.Join(dir, strconv.Itoa(next))
	if err := fill(gen, b); err != nil {
		return cause("make the log", errors.Join(err, os.RemoveAll(gen)))
	}
	for _, f := range []string{gen, dir} {
		if err := syncDir(f); err != nil {
			return cause("make the log", err)
		}
	}
	for _, n := range old {
		if err := os.RemoveAll(filepath.Join(dir, strconv.Itoa(n))); err != nil {
			return cause("remove the old log", err)
		}
	}
	return nil
}

// fill makes the files of a generation; ready is the last.
func fill(gen string, b base) error {
	log := filepath.Join(gen, "wal")
	if err := os.MkdirAll(log, 0o700); err != nil {
		return err
	}
	for _, f := range []struct {
		path  string
		half  int64
		value []byte
	}{
		{filepath.Join(gen, "votes"), votesHalf, b.Ballot.encode()},
		{filepath.Join(gen, "marker"), markerHalf, b.Note.encode()},
		{filepath.Join(log, "segments"), segmentsHalf, make([]byte, 8)},
	} {
		s, err := createSlots(f.path, f.half, f.value, nil)
		if err != nil {
			return err
		}
		if err := s.close(); err != nil {
			return err
		}
	}
	water, err := os.OpenFile(filepath.Join(gen, "watermark"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(writeWatermark(water, 0), water.Sync(), water.Close()); err != nil {
		return err
	}
	for _, d := range []string{log, gen} {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(gen, "ready"), nil, 0o600)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Bootstrap makes the directory of the first member of a new group, alone in it. Operations get indexes above that of a
// position, at which the state is.
func Bootstrap(dir, self string, at chain.Position) error {
	if Initialized(dir) {
		return fmt.Errorf("begin a group: %s belongs to one", dir)
	}
	return create(dir, base{
		Note:   note{Index: max(at.Index, 1), Term: 1, Members: alone(self), MembersAt: 1, At: at},
		Ballot: ballot{Era: 1, Term: 1},
	})
}

func alone(self string) []byte {
	return raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: raft.ServerID(self), Address: raft.ServerAddress(self)},
	}})
}

// Seed replaces the directory by one that follows from a position, where the state already is. base is from the leader's
// Base for the same position. A crash leaves the old directory or the new one.
func Seed(dir string, at chain.Position, encoded []byte) error {
	b, err := parseBase(encoded)
	if err != nil {
		return err
	}
	if b.Note.At != at {
		return fmt.Errorf("seed at operation %d: the leader's word is for %d", at.Index, b.Note.At.Index)
	}
	return create(dir, b)
}

// parseBase reads what a leader sent.
func parseBase(encoded []byte) (base, error) {
	var b base
	if err := json.Unmarshal(encoded, &b); err != nil {
		return b, fmt.Errorf("seed: %w", err)
	}
	if _, _, err := parseNote(b.Note.encode()); err != nil {
		return b, fmt.Errorf("seed: %w", err)
	}
	if b.Ballot.Era == 0 || b.Ballot.Term < b.Note.Term {
		return b, fmt.Errorf("seed: term %d of era %d: %w", b.Ballot.Term, b.Ballot.Era, errRotten)
	}
	return b, nil
}
