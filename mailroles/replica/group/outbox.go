package group

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// outbox is the library's transport. It learns from the answers who follows and how far, and keeps the library from
// some of its ways: it backs off up to ten seconds from a member that was away, where the mail waits for that member.
type outbox struct {
	*raft.NetworkTransport // what is not said here
	inbox                  *inbox
	peers                  *peers
	promise                *promise
	health                 *health
	ctx                    context.Context // ends with the run of the group
	leads                  func(term uint64) bool
	turned                 func() // a member can be reached that could not, or the other way round
	wg                     *sync.WaitGroup
	stream                 *stream

	abdicated atomic.Uint64 // the newest term that this member gave up
	handing   atomic.Uint64 // the term that it is handing over
}

// Consumer gives the requests of others.
func (o *outbox) Consumer() <-chan raft.RPC { return o.inbox.out }

// SetHeartbeatHandler takes the library's handler of heartbeats.
func (o *outbox) SetHeartbeatHandler(f func(raft.RPC)) {
	o.inbox.mu.Lock()
	o.inbox.heartbeat = f
	o.inbox.mu.Unlock()
	o.NetworkTransport.SetHeartbeatHandler(o.inbox.beat)
}

// abdicate gives up a term: the library's replication is told that there is a newer one, and steps down.
func (o *outbox) abdicate(term uint64) { o.abdicated.Store(term) }

// gone answers for a peer when this member has given up the term.
func (o *outbox) gone(term uint64, resp *raft.AppendEntriesResponse) bool {
	if o.abdicated.Load() < term {
		return false
	}
	resp.Term, resp.Success = term+1, false
	return true
}

// AppendEntries sends entries, or a heartbeat, which has none and names no entry before.
func (o *outbox) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := o.health.failed(); err != nil {
		return err
	}
	if heartbeat := req.PrevLogEntry == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0; !heartbeat {
		o.await(string(id), req.Term)
	}
	if o.gone(req.Term, resp) {
		return nil
	}
	sent := bootTime()
	err := o.NetworkTransport.AppendEntries(id, to, req, resp)
	if o.peers.reached(string(id), err == nil) {
		o.turned()
	}
	if err == nil {
		o.note(string(id), sent, req, resp)
	}
	return err
}

// await waits for a member that could not be reached, until a heartbeat gets through, or this one no longer leads.
func (o *outbox) await(id string, term uint64) {
	for {
		up := o.peers.unreachable(id)
		if up == nil {
			return
		}
		select {
		case <-up:
		case <-o.ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
			if !o.leads(term) {
				return
			}
		}
	}
}

// note learns from an answer.
func (o *outbox) note(id string, sent instant, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) {
	if !resp.Success || resp.Term != req.Term {
		return
	}
	matched := req.PrevLogEntry
	if n := len(req.Entries); n > 0 {
		matched = req.Entries[n-1].Index
	}
	o.peers.answered(id, req.Term, sent, matched)
}

// AppendEntriesPipeline begins to send entries without waiting for each answer.
func (o *outbox) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := o.NetworkTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	p := &pipeline{AppendPipeline: inner, o: o, id: string(id), out: make(chan raft.AppendFuture), done: make(chan struct{})}
	o.wg.Go(p.run)
	return p, nil
}

// pipeline watches the answers of the library's.
type pipeline struct {
	raft.AppendPipeline
	o    *outbox
	id   string
	out  chan raft.AppendFuture
	once sync.Once
	done chan struct{}

	mu   sync.Mutex
	sent []instant // of those under way, the oldest first
}

// AppendEntries sends entries.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if err := p.o.health.failed(); err != nil {
		return nil, err
	}
	if p.o.abdicated.Load() >= req.Term {
		return nil, fmt.Errorf("append in term %d: it was given up", req.Term)
	}
	p.mu.Lock()
	p.sent = append(p.sent, bootTime())
	p.mu.Unlock()
	return p.AppendPipeline.AppendEntries(req, resp)
}

// Consumer gives the answers.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.out }

// Close ends the pipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.AppendPipeline.Close()
}

// run passes answers on.
func (p *pipeline) run() {
	for {
		var f raft.AppendFuture
		select {
		case f = <-p.AppendPipeline.Consumer():
		case <-p.done:
			p.release()
			return
		}
		p.mu.Lock()
		sent := p.sent[0]
		p.sent = p.sent[1:]
		p.mu.Unlock()
		if err := f.Error(); err == nil {
			p.o.note(p.id, sent, f.Request(), f.Response())
		}
		select {
		case p.out <- f:
		case <-p.done:
			p.release()
			return
		}
	}
}

// release ends the library's reader of answers, which waits for ever when its sender ended for an entry that cannot be
// read. Mostly it has ended before.
func (p *pipeline) release() {
	select {
	case p.out <- refused{}:
	case <-time.After(time.Second):
	}
}

// refused is an answer at which the library's reader ends.
type refused struct{}

func (refused) Error() error                          { return ErrClosed }
func (refused) Start() time.Time                      { return time.Time{} }
func (refused) Request() *raft.AppendEntriesRequest   { return &raft.AppendEntriesRequest{} }
func (refused) Response() *raft.AppendEntriesResponse { return &raft.AppendEntriesResponse{} }

// RequestVote asks for a vote, unless this member has promised not to stand.
func (o *outbox) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := o.health.failed(); err != nil {
		return err
	}
	may, handed := o.promise.stand(req.Term, req.LeadershipTransfer)
	if !may {
		return fmt.Errorf("not standing in term %d: a leader may have its lease still", req.Term)
	}
	ask := *req
	ask.LeadershipTransfer = handed
	return o.NetworkTransport.RequestVote(id, to, &ask, resp)
}

// RequestPreVote asks whether a vote would be given.
func (o *outbox) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := o.health.failed(); err != nil {
		return err
	}
	return o.NetworkTransport.RequestPreVote(id, to, req, resp)
}

// InstallSnapshot tells a member that it is too far behind.
func (o *outbox) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, body io.Reader) error {
	if err := o.health.failed(); err != nil {
		return err
	}
	o.await(string(id), req.Term)
	return o.NetworkTransport.InstallSnapshot(id, to, req, resp, body)
}

// TimeoutNow tells a member to stand. The term in which that was said goes with it.
func (o *outbox) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if err := o.health.failed(); err != nil {
		return err
	}
	ask := *req
	ask.Addr = handedAddr(o.handing.Load())
	return o.NetworkTransport.TimeoutNow(id, to, &ask, resp)
}
