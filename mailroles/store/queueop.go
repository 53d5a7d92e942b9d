package store

import "encoding/json"

// queueOp is what an operation does with the LUN's queue.
type queueOp struct{}

func (q *queueOp) check() error { return nil }

// queueApply does an operation of the queue. Operations since the last checkpoint come again after a crash, in order.
func (s *Store) queueApply(index uint64, o *op) error { return nil }

// queueSave writes what the queue holds, for a checkpoint that makes it durable afterwards. No operation runs meanwhile.
func (s *Store) queueSave() error { return nil }

// queueManifest gives all that the queue holds, for another replica. No operation runs meanwhile.
func (s *Store) queueManifest() (json.RawMessage, error) { return nil, nil }

// queueInstall makes the queue what another replica's was.
func (s *Store) queueInstall(state json.RawMessage) error { return nil }

// queueBody gives the file of a body that the queue holds, below the LUN's directory.
func (s *Store) queueBody(b Body) (path string, ok bool) { return "", false }

// queueHolds tells of the bodies in the incoming directory, by name, that the queue needs.
func (s *Store) queueHolds(name string) bool { return false }
