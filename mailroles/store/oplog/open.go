package oplog

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"anycastle/internal/wholefile"
)

// Open opens the log in a directory, which it makes when there is none. What it read is on disk when it returns, also
// when a process before this one was told that it is not.
func Open(opt Options) (*Log, error) {
	if opt.Sync == nil {
		opt.Sync = fdatasync
	}
	if opt.Fill == nil {
		opt.Fill = fill
	}
	if err := os.Mkdir(opt.Dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{opt: opt}
	l.landed = sync.NewCond(&l.mu)
	firsts, err := segments(opt.Dir)
	if err != nil {
		return nil, err
	}
	next := max(opt.From, 1)
	if len(firsts) > 0 && firsts[0] < next {
		next = firsts[0]
	}
	var last scanned
	for _, first := range firsts {
		if last, err = l.look(first, next); err != nil {
			return nil, err
		}
		next = last.next
	}
	next = max(next, opt.From)
	l.next, l.Found.Last = next, next-1
	if len(firsts) == 0 || len(last.damage) > 0 || last.next < next {
		l.start, l.size = next, chunk
		l.file, err = l.create(next)
	} else {
		l.start, l.end, l.Found.Torn = firsts[len(firsts)-1], last.end, last.torn
		err = l.renew()
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// look scans a segment and notes damage. A gap before it is damage as well.
func (l *Log) look(first, next uint64) (scanned, error) {
	path := segment(l.opt.Dir, first)
	data, err := os.ReadFile(path)
	if err != nil {
		return scanned{}, fmt.Errorf("read log: %w", err)
	}
	if first > next {
		l.Found.Damage = append(l.Found.Damage, Damage{Path: path, From: next, To: first - 1})
	}
	s, err := scan(path, data, first, nil)
	l.Found.Damage = append(l.Found.Damage, s.damage...)
	return s, err
}

// renew writes the last segment's batches once more, in place, and zeros behind them, and waits for the disk: a page
// whose write failed is taken for clean afterwards, and could be read until it is dropped.
func (l *Log) renew() error {
	path := segment(l.opt.Dir, l.start)
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("renew log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("renew log: %w", err)
	}
	clear(data[l.end:])
	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = wholefile.SyncDir(l.opt.Dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("renew log: %w", err), f.Close())
	}
	l.file, l.size = f, int64(len(data))
	return nil
}

// Replay calls each for every record from an index on, in order, passing over what is damaged. Its error ends it.
func (l *Log) Replay(from uint64, each func(index uint64, record []byte) error) error {
	firsts, err := segments(l.opt.Dir)
	if err != nil {
		return err
	}
	for _, first := range firsts {
		path := segment(l.opt.Dir, first)
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("replay log: %w", err)
		}
		_, err = scan(path, data, first, func(index uint64, record []byte) error {
			if index < from {
				return nil
			}
			return each(index, record)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// segments gives the indexes that segments are called after, in order.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list log: %w", err)
	}
	var firsts []uint64
	for _, e := range entries {
		hex, ok := strings.CutSuffix(e.Name(), ".log")
		if first, err := strconv.ParseUint(hex, 16, 64); ok && err == nil && len(hex) == 16 && first > 0 {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}
