package replica

import (
	"errors"
	"fmt"
	"time"

	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/store"
)

// groupStart is the index at which a group's own notes begin; operations come behind them.
const groupStart = 1

// errNoGroup says that the log is not open.
var errNoGroup = errors.New("replica: the log is not open now")

// records gives the operations of the log from one index to another, for a restore. What the log has besides operations, such as
// changes of its members, is passed over. The error is store.ErrNotKept when the log does not reach back as far.
func (r *Replica) records(from, to uint64, each func(index uint64, record []byte) error) error {
	g := r.group.Load()
	if g == nil {
		return errNoGroup
	}
	return walk(g, from, to, each)
}

// recorder is the log of a group.
type recorder interface {
	Record(index uint64) (record []byte, at time.Time, err error)
	Status() group.Status
}

func walk(g recorder, from, to uint64, each func(index uint64, record []byte) error) error {
	kept := func() error {
		if first := g.Status().First; first == 0 || first > max(from, groupStart+1) {
			return fmt.Errorf("%w: it begins with operation %d", store.ErrNotKept, first)
		}
		return nil
	}
	if err := kept(); err != nil {
		return err
	}
	for index := from; index <= to; index++ {
		record, _, err := g.Record(index)
		switch {
		case errors.Is(err, group.ErrGone) || err == nil && len(record) == 0:
			continue
		case err != nil:
			return err
		}
		if err := each(index, record); err != nil {
			return err
		}
	}
	return kept() // its beginning may have been let go meanwhile
}
