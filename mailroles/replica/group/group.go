package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"anycastle/mailroles/replica/chain"
)

// Errors that callers branch on.
var (
	// ErrPassive is for what only the member that leads can do. After an Append it means that nobody knows yet whether
	// the operation will be committed.
	ErrPassive = errors.New("this replica is not the active one")
	// ErrBlank is for a directory whose log or votes cannot be trusted: it must be seeded anew, and until then this
	// member votes for nobody.
	ErrBlank = errors.New("the log of this replica cannot be trusted")
	// ErrDiverged is for an operation that does not follow the one before it.
	ErrDiverged = errors.New("the log has diverged")
	// ErrDisk is for a log that could not be written: what was acknowledged is still there, and the directory may be
	// opened again once the disk is well.
	ErrDisk = errors.New("the log cannot be written")
	// ErrGone is for an operation that the log no longer holds.
	ErrGone = errors.New("the log no longer holds this operation")
	// ErrClosed is for a group whose Run has returned.
	ErrClosed = errors.New("the group is closed")
)

// Machine is the state that operations change, as it was opened from disk: a group that is opened again needs it opened
// again too. The group calls Apply from one goroutine at a time, Checkpoint and Expect beside it.
type Machine interface {
	// Saved gives the last operation that is in the state on disk.
	Saved() chain.Position
	// Apply changes the state. Operations come in order, each once after Saved; an error stops this replica.
	Apply(index uint64, head chain.Sum, record []byte) error
	// Checkpoint brings all that was applied to disk, so that Saved is at least what was applied when it was called.
	Checkpoint() error
	// Expect says that operations up to last may have been applied to this state before it was opened, and none beyond.
	Expect(last uint64)
}

// Member is a replica of the LUN or its witness. Members are listed in order of preference.
type Member struct {
	Name, Site, Addr string
	Witness          bool // it votes and keeps the log, and never leads for long
}

// Times are the clocks of a group. Those that are zero have the defaults of DefaultTimes.
type Times struct {
	Heartbeat time.Duration // a member that hears nothing from the leader for so long stands for election
	Election  time.Duration // an election without result begins anew after this
	Lease     time.Duration // a leader whom no quorum answered for so long ceases to lead; at most Heartbeat
	Commit    time.Duration // at the latest so long after a commit the others know of it
	Stall     time.Duration // a leader whose disk takes longer for a write makes room for another
	RPC       time.Duration // bound on one exchange with another member
}

// DefaultTimes are for members some milliseconds apart.
var DefaultTimes = Times{
	Heartbeat: 600 * time.Millisecond, Election: 600 * time.Millisecond, Lease: 400 * time.Millisecond,
	Commit: 20 * time.Millisecond, Stall: 3 * time.Second, RPC: 1500 * time.Millisecond,
}

// Options describe one member of a group.
type Options struct {
	LUN, Self string
	Members   []Member
	Dir       string  // belongs to the group alone
	Machine   Machine // nil on a witness
	// Dial reaches another member; Conns are the connections that others made to this one.
	Dial      func(ctx context.Context, member string) (net.Conn, error)
	Conns     <-chan net.Conn
	Log       *slog.Logger
	Times     Times
	Keep      time.Duration // how long the log keeps an operation after it was applied everywhere; 40 h when zero
	KeepBytes int64         // at most so much is kept for that reason; 0: no bound
	// Led and Lost are called in turn, from one goroutine: between them, and only then, Append takes operations. All
	// that was committed is applied when Led is called. Lost returns before Led is called again.
	Led  func(term uint64)
	Lost func()
	// Broken is called at most once, when this member stops for good; Run then returns the same error.
	Broken func(error)

	test trial // what tests set
}

// trial is what tests have otherwise than it is in use. The zero value is that of use.
type trial struct {
	faults   faults
	now      func() time.Time
	segment  int           // size of a segment of the log
	trailing uint64        // so many entries are kept whatever their age
	interval time.Duration // between markers
	admit    time.Duration // see admitTime
}

// Group is one member of a LUN's group. Its methods are safe for concurrent use.
type Group struct {
	o   Options
	log *slog.Logger

	lock    *os.File
	gen     string // directory of the generation
	health  *health
	journal *journal
	votes   *votes
	marker  *marker
	applier *applier
	promise *promise
	peers   *peers
	epoch   epoch
	kick    chan struct{} // has tell look
	look    chan struct{} // has watch look
	pacer   *pacer        // set before tell and watch are run
	outbox  *outbox       // set before raft is

	raft atomic.Pointer[raft.Raft] // nil until Run has started it
	turn sync.Mutex                // held while members are changed or leadership is handed over

	admission admission

	passing   uint64  // the term that a witness wants to hand over; its turn guards it
	passSince instant // and since when
}

// withDefaults checks the options and fills in what was left out.
func (o Options) withDefaults() (Options, error) {
	self := slices.IndexFunc(o.Members, func(m Member) bool { return m.Name == o.Self })
	switch {
	case self < 0:
		return o, fmt.Errorf("open group %s: %s is not among its members", o.LUN, o.Self)
	case o.Members[self].Witness != (o.Machine == nil):
		return o, fmt.Errorf("open group %s: a replica has a state, and a witness has none", o.LUN)
	case o.Dial == nil || o.Conns == nil || o.Dir == "":
		return o, fmt.Errorf("open group %s: it needs a directory and connections", o.LUN)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Keep == 0 {
		o.Keep = 40 * time.Hour
	}
	if o.Led == nil {
		o.Led = func(uint64) {}
	}
	if o.Lost == nil {
		o.Lost = func() {}
	}
	if o.Broken == nil {
		o.Broken = func(error) {}
	}
	d := DefaultTimes
	for _, t := range []struct{ set, usual *time.Duration }{
		{&o.Times.Heartbeat, &d.Heartbeat}, {&o.Times.Election, &d.Election}, {&o.Times.Lease, &d.Lease},
		{&o.Times.Commit, &d.Commit}, {&o.Times.Stall, &d.Stall}, {&o.Times.RPC, &d.RPC},
	} {
		if *t.set == 0 {
			*t.set = *t.usual
		}
	}
	if t := o.Times; t.Lease+t.Lease/4 > t.Heartbeat || t.Heartbeat > t.Election {
		return o, fmt.Errorf("open group %s: the lease of %v must be well within the heartbeat's %v, and that within the election's %v",
			o.LUN, t.Lease, t.Heartbeat, t.Election)
	}
	if o.test.now == nil {
		o.test.now = time.Now
	}
	o.test.segment = cmp.Or(o.test.segment, 16<<20)
	o.test.admit = cmp.Or(o.test.admit, admitTime)
	o.test.trailing = cmp.Or(o.test.trailing, 1024)
	o.test.interval = cmp.Or(o.test.interval, 30*time.Second)
	return o, nil
}

func (g *Group) member(name string) (Member, bool) {
	for _, m := range g.o.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

func (g *Group) witness() bool { return g.o.Machine == nil }
