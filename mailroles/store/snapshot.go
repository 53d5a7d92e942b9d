package store

// snapshotOp asks each replica for a snapshot of the LUN.
type snapshotOp struct{}

func (o *snapshotOp) check() error { return nil }

// snapshotApply takes a snapshot. The store is at the operation's index when Applied says so, and no other operation is
// done meanwhile; it may be later when the operation comes again after a crash. It may make a checkpoint.
func (s *Store) snapshotApply(index uint64, o *op) error { return nil }
