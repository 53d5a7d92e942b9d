package group

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// inbox stands between the connections of the others and the library: it keeps the promise, and answers for a member
// that is broken.
type inbox struct {
	promise *promise
	health  *health
	self    string
	heard   func(member string)           // a leader sent something
	has     func(index, term uint64) bool // whether the log here has an entry
	marker  func() uint64                 // up to here all is committed

	out chan raft.RPC

	mu        sync.Mutex
	heartbeat func(raft.RPC) // the library's handler, which is beside its main loop
}

// run passes requests on until ctx ends.
func (b *inbox) run(ctx context.Context, in <-chan raft.RPC) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		var rpc raft.RPC
		select {
		case rpc = <-in:
		case <-ctx.Done():
			return
		}
		if b.refuse(rpc) {
			continue
		}
		answer := make(chan raft.RPCResponse, 1)
		wg.Go(func() {
			select {
			case r := <-answer:
				b.reply(rpc, r)
			case <-ctx.Done():
				b.reply(rpc, raft.RPCResponse{Response: emptyAnswer(rpc.Command), Error: ErrClosed})
			}
		})
		select {
		case b.out <- raft.RPC{Command: b.command(rpc), Reader: rpc.Reader, RespChan: answer}:
		case <-ctx.Done():
			return
		}
	}
}

// command gives what the library shall see of a request.
func (b *inbox) command(rpc raft.RPC) any {
	if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
		return sound(req, b.marker())
	}
	return rpc.Command
}

// beat passes on a heartbeat.
func (b *inbox) beat(rpc raft.RPC) {
	if b.refuse(rpc) {
		return
	}
	b.mu.Lock()
	handle := b.heartbeat
	b.mu.Unlock()
	answer := make(chan raft.RPCResponse, 1)
	handle(raft.RPC{Command: rpc.Command, RespChan: answer})
	select {
	case r := <-answer:
		b.reply(rpc, r)
	default: // the library is being shut down
		b.reply(rpc, raft.RPCResponse{Response: emptyAnswer(rpc.Command), Error: ErrClosed})
	}
}

// refuse answers what the library shall not see, and says whether it did.
func (b *inbox) refuse(rpc raft.RPC) bool {
	err := b.health.failed()
	if err == nil {
		err = b.objection(rpc)
	}
	if err == nil {
		return false
	}
	answer := emptyAnswer(rpc.Command)
	if c, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok && errors.Is(err, errHasIt) {
		answer, err = &raft.InstallSnapshotResponse{Term: c.Term, Success: true}, nil
	}
	rpc.Respond(answer, err)
	return true
}

// errHasIt is for a marker of which this member has all: its leader goes on from there.
var errHasIt = errors.New("no need of the marker")

func (b *inbox) objection(rpc raft.RPC) error {
	switch c := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		b.heard(string(c.ID))
	case *raft.RequestVoteRequest:
		if !b.promise.vote(string(c.ID), c.Term, c.LeadershipTransfer) {
			return fmt.Errorf("no vote in term %d: a leader may have its lease still", c.Term)
		}
	case *raft.TimeoutNowRequest:
		term := handedTerm(c.Addr)
		if !b.promise.handOver(string(c.ID), term) {
			return fmt.Errorf("no hand-over of term %d: its leader is not mine", term)
		}
	case *raft.InstallSnapshotRequest:
		if !b.promise.leads(string(c.ID), c.Term) {
			return fmt.Errorf("no marker of term %d: its leader is not mine", c.Term)
		}
		if b.has(c.LastLogIndex, c.LastLogTerm) { // it is about what this member was before it was seeded
			return errHasIt
		}
		err := fmt.Errorf("%w: it is so far behind that the leader's log begins after its end", ErrBlank)
		b.health.fail(err)
		return err
	}
	return nil
}

// reply gives the library's answer to the asker, as far as the promise allows it.
func (b *inbox) reply(rpc raft.RPC, r raft.RPCResponse) {
	switch c := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		resp, ok := r.Response.(*raft.AppendEntriesResponse)
		if ok && r.Error == nil && resp.Success && (b.health.failed() != nil || !b.promise.answer(string(c.ID), c.Term)) {
			resp.Success = false
		}
	case *raft.RequestVoteRequest:
		resp, ok := r.Response.(*raft.RequestVoteResponse)
		granted := ok && r.Error == nil && resp.Granted
		b.promise.decided(c.Term, granted)
		if granted && b.health.failed() != nil {
			resp.Granted = false
		}
	}
	rpc.RespChan <- r
}

// emptyAnswer is of the type that the asker decodes.
func emptyAnswer(command any) any {
	switch command.(type) {
	case *raft.AppendEntriesRequest:
		return &raft.AppendEntriesResponse{}
	case *raft.RequestVoteRequest:
		return &raft.RequestVoteResponse{}
	case *raft.RequestPreVoteRequest:
		return &raft.RequestPreVoteResponse{}
	case *raft.InstallSnapshotRequest:
		return &raft.InstallSnapshotResponse{}
	default:
		return &raft.TimeoutNowResponse{}
	}
}

// A hand-over names the term of the leader that gives up, in a field of the header that the library does not read there:
// a member that was stopped for a while must not act on one from a term that is over.
const handOver = "hand over term "

func handedAddr(term uint64) []byte { return []byte(handOver + strconv.FormatUint(term, 10)) }

func handedTerm(addr []byte) uint64 {
	text, ok := strings.CutPrefix(string(addr), handOver)
	term, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil {
		return 0
	}
	return term
}
