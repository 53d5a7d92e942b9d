package group

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"
)

// DeleteRange removes entries from one end of the log. At the beginning it removes only what is old enough, or too much;
// at the end all that was asked for, which is what the leader of a newer term says never happened.
func (j *journal) DeleteRange(from, to uint64) error {
	if !j.enter() {
		return ErrClosed
	}
	defer j.mu.RUnlock()
	if err := j.health.failed(); err != nil {
		return err
	}
	defer j.health.busy()()
	first, err := j.wal.FirstIndex()
	if err == nil {
		if last := j.last.Load(); to < last {
			err = j.deleteOld(first, to)
		} else {
			err = j.deleteEnd(first, from, last)
		}
	}
	if err != nil {
		err = cause("shorten the log", err)
		j.health.fail(err)
	}
	return err
}

// deleteOld removes entries up to an index, as far as they need not be kept.
func (j *journal) deleteOld(first, to uint64) error {
	if first == 0 {
		return nil
	}
	aged, err := j.aged(first, to)
	if err != nil {
		return err
	}
	excess, err := j.excess()
	if err != nil {
		return err
	}
	if to = min(to, max(aged, excess)); to < first {
		return nil
	}
	return j.wal.DeleteRange(first, to)
}

// deleteEnd removes the entries from an index on, which may be all there are.
func (j *journal) deleteEnd(first, from, last uint64) error {
	left := from - 1
	if from <= first {
		left = 0
	}
	if err := errors.Join(writeWatermark(j.water, left), j.water.Sync()); err != nil {
		return err
	}
	j.last.Store(left)
	if err := j.wal.DeleteRange(from, last); err != nil {
		return err
	}
	if err := j.rewind(left); err != nil {
		return err
	}
	j.expect(j.tip().Index)
	return nil
}

// aged gives the index up to which entries are older than they must be kept. The age is by the last entry's time if that
// is before our own: a clock that ran ahead, ours or that of a leader, shall not cost us the log. Where clocks jumped
// the answer may be off by some entries.
func (j *journal) aged(first, to uint64) (uint64, error) {
	var l raft.Log
	if err := j.read(j.last.Load(), &l); err != nil {
		return 0, err
	}
	now := j.now()
	if l.AppendedAt.Before(now) {
		now = l.AppendedAt
	}
	var failed error
	n := sort.Search(int(to-first+1), func(i int) bool {
		if failed == nil {
			failed = j.read(first+uint64(i), &l)
		}
		return failed != nil || now.Sub(l.AppendedAt) < j.keep
	})
	return first + uint64(n) - 1, failed
}

// excess gives the index up to which segments must go for the log to be within its bound, 0 for none.
func (j *journal) excess() (uint64, error) {
	if j.keepBytes <= 0 {
		return 0, nil
	}
	entries, err := os.ReadDir(j.dir) // sorted by name, which begins with the first index
	if err != nil {
		return 0, err
	}
	var sizes []int64
	var bases []uint64
	total := int64(0)
	for _, e := range entries {
		base, _, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".wal"), "-")
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(base, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("segment %s: %w", filepath.Join(j.dir, e.Name()), err)
		}
		info, err := e.Info()
		if err != nil {
			return 0, err
		}
		sizes, bases, total = append(sizes, info.Size()), append(bases, n), total+info.Size()
	}
	upTo := uint64(0)
	for i := 0; i+1 < len(bases) && total > j.keepBytes; i++ {
		total -= sizes[i]
		upTo = bases[i+1] - 1
	}
	return upTo, nil
}
