package group

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

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

// Machine is the state that operations change. The group calls Apply from one goroutine at a time.
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
	Commit: 10 * time.Millisecond, Stall: 3 * time.Second, RPC: 5 * time.Second,
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
}

// Group is one member of a LUN's group. Its methods are safe for concurrent use.
type Group struct{}

// Peer is what a Status says of a member.
type Peer struct {
	Name    string
	Voter   bool      // false: it follows and does not vote, or is in no configuration
	In      bool      // it is in the configuration of the group
	Matched uint64    // see Group.Matched; known to the leader only
	Contact time.Time // when it last answered, or was last heard from; zero: never
}

// Status is a picture of a group as one member sees it.
type Status struct {
	Self, Leader string // Leader is empty when none is known
	Term, Era    uint64
	Leading      bool // between Led and Lost
	First, Last  uint64
	Committed    uint64
	Applied      chain.Position
	Peers        []Peer // all members, in the order of the options
	Broken       error
}

// Open reads the directory and begins to take part in the group. It fails with ErrBlank when the directory is empty or
// what it holds cannot be trusted. The caller must call Run, also to close it.
func Open(o Options) (*Group, error) { return nil, errors.ErrUnsupported }

// Run works until ctx ends, in which case it returns nil, or until this member is broken. All goroutines have ended when
// it returns, but for one that the disk does not let go. Lost is called before it returns, when Led was.
func (g *Group) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Append puts an operation at the end of the log. The order of calls is the order of the log. wait returns its index once
// Machine.Apply has returned for it, or ErrPassive when this member ceased to lead before that, and may be called by more
// than one. After a failure of any kind nothing more is taken until Led is called again.
func (g *Group) Append(record []byte) (wait func() (index uint64, err error), err error) {
	return nil, ErrPassive
}

// Lease returns nil while no other member can lead: a quorum answered what this member sent within the time of the
// lease, in a term for which Led was called, and nothing since gave that away. The clock does not stop with the process.
func (g *Group) Lease() error { return ErrPassive }

// Matched gives the index up to which a member is known to have this leader's log on disk; 0 when this one does not lead.
func (g *Group) Matched(member string) uint64 { return 0 }

// Moved is closed at the next change of what Matched, Leader or Lease answer for good.
func (g *Group) Moved() <-chan struct{} { return nil }

// Transfer hands over to another member and returns once this one no longer leads. Appends under way are committed before
// it; new ones fail with ErrPassive from the moment of the call. After an error this member may still lead: Lost and
// Led are called then too.
func (g *Group) Transfer(ctx context.Context, to string) error { return errors.ErrUnsupported }

// Leader gives the member that leads as far as this one knows, empty when it knows none, and the term.
func (g *Group) Leader() (member string, term uint64) { return "", 0 }

// Status gives a picture for people.
func (g *Group) Status() Status { return Status{} }

// Record reads an operation from the log, and when it was proposed. ErrGone: it is not there (any more), or is none.
func (g *Group) Record(index uint64) (record []byte, at time.Time, err error) { return nil, time.Time{}, ErrGone }

// Admit makes a member one that follows without a vote; whatever it knew before counts for nothing. Only on the leader.
func (g *Group) Admit(ctx context.Context, member string) error { return errors.ErrUnsupported }

// Promote gives a member its vote. Only on the leader, once the member has caught up.
func (g *Group) Promote(ctx context.Context, member string) error { return errors.ErrUnsupported }

// Base gives what a blank member needs, besides the state at a position, to follow from there. Only on the leader, after
// Admit. ErrGone: the position is too old, ask for a newer state.
func (g *Group) Base(at chain.Position) ([]byte, error) { return nil, errors.ErrUnsupported }

// Seed replaces the directory by one that follows from a position, where the state already is. base is from the leader's
// Base. It is atomic: a crash leaves the old directory or the new one.
func Seed(dir string, at chain.Position, base []byte) error { return errors.ErrUnsupported }

// Bootstrap makes the directory of the first member of a new group, alone in it.
func Bootstrap(dir, self string) error { return errors.ErrUnsupported }

// Initialized says whether the directory belongs to a member of a group, or did before it was damaged.
func Initialized(dir string) bool { return false }

// Recover makes this member the only one of its group, in a new era: all that is in its log counts as committed. It is
// for the day when a quorum is gone for good. The members of the old era must never meet those of the new one.
func Recover(dir, self string) error { return errors.ErrUnsupported }

// Inspection is what a directory says while its group is not open.
type Inspection struct {
	Era, Term   uint64
	First, Last uint64         // of the log
	Marker      chain.Position // up to here the state was brought to disk when that was last noted
	Voters      []string       // of the last configuration in the log
	Nonvoters   []string
}

// Inspect reads a directory without changing it. ErrBlank as for Open.
func Inspect(dir string) (Inspection, error) { return Inspection{}, errors.ErrUnsupported }
