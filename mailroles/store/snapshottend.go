package store

import (
	"context"
	"errors"
	"time"

	"anycastle/internal/phase"
)

// tendEvery is how often the store looks after what it keeps for a while.
const tendEvery = time.Minute

// tend writes the snapshots that operations ask for, asks for those that are due, and removes what is too old or for what there
// is no room, until ctx ends.
func (s *Store) tend(ctx context.Context) {
	second, minute := phase.NewTicker(s.since, time.Second), time.NewTicker(tendEvery)
	defer second.Stop()
	defer minute.Stop()
	for {
		select {
		case <-ctx.Done():
			s.abandonSnapshots()
			return
		case c := <-s.snapshots.queue:
			s.completeSnapshot(ctx, c)
		case <-second.C:
			second.Next()
			s.makeRoomAll(ctx)
		case <-minute.C:
			s.tendExpunged(ctx)
			s.snapshotWhenDue(ctx)
		}
	}
}

// abandonSnapshots ends those that nobody writes any more.
func (s *Store) abandonSnapshots() {
	for {
		select {
		case c := <-s.snapshots.queue:
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			s.completeSnapshot(ended, c)
		default:
			return
		}
	}
}

// snapshotWhenDue takes a snapshot when none has been taken since the last time for one, or has one asked for.
func (s *Store) snapshotWhenDue(ctx context.Context) {
	s.snapshots.mu.Lock()
	last := s.snapshots.last
	s.snapshots.mu.Unlock()
	if !last.Before(s.now().UTC().Truncate(SnapshotEvery)) || s.Err() != nil {
		return
	}
	if s.journal == nil {
		s.takeSnapshot(ctx, false) // it tells of its failure itself
		return
	}
	_, err := s.proposeSnapshot(false)
	if err != nil && !errors.Is(err, ErrPassive) { // the active store does it
		s.log.Warn("no snapshot yet", "err", err)
	}
}

// makeRoomAll removes bodies of expunged messages while there is little room, and when that did not help because snapshots
// have them too, the oldest of these. A removal must be able to free a full disk.
func (s *Store) makeRoomAll(ctx context.Context) {
	for ctx.Err() == nil && s.short() {
		if s.makeRoom(1000) > 0 {
			continue
		}
		list := s.Snapshots()
		if len(list) == 0 || !s.expunged.held.Load() {
			return
		}
		s.snapshots.writing.Lock()
		err := s.dropSnapshot(list[0].ID)
		s.snapshots.writing.Unlock()
		if err != nil {
			s.log.Error("cannot remove a snapshot to make room", "snapshot", list[0].ID, "err", err)
			return
		}
		s.log.Warn("snapshot is removed before its time, as the disk is nearly full", "snapshot", list[0].ID)
		if len(list) == 1 {
			s.expunged.held.Store(false)
		}
	}
}
