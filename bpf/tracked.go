package bpf

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// TrackedFlow is a flow that the program stored when it began in a slot in transition, with the index of its real.
type TrackedFlow struct {
	Client, VIP netip.AddrPort
	Proto       uint8
	Real        uint16
	// ID is that of the hash under which it is stored. If the flow's hash has another, the program was writing its name while
	// it was read, and this is none.
	ID FlowID
}

// TrackedCursor is how far TrackedFlows has come. The zero TrackedCursor is at the beginning.
type TrackedCursor struct {
	cursor ebpf.MapBatchCursor
	seen   map[FlowID]bool
}

// TrackedFlows gives some of the stored flows, from where the cursor is, and says whether there may be more. A flow that is
// stored meanwhile may be missed, and so is one after which more were stored than names are kept. It may be called
// concurrently with everything but Close.
func (lb *LB) TrackedFlows(from *TrackedCursor) (flows []TrackedFlow, more bool, err error) {
	indexes, names := make([]uint32, bucketBatch), make([]lbFlowName, bucketBatch)
	n, err := lb.objs.FlowNames.BatchLookup(&from.cursor, indexes, names, nil)
	more = err == nil
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, false, fmt.Errorf("read the names of stored flows: %w", err)
	}
	if from.seen == nil {
		from.seen = map[FlowID]bool{}
	}
	for _, name := range names[:n] {
		f, id := name.Flow, lb.flowID(name.Id)
		if f.Family == 0 || from.seen[id] {
			continue
		}
		real, err := lb.stored(name.Id)
		if err != nil {
			return nil, false, err
		}
		if real == 0 {
			continue // it was forgotten, or had to make room
		}
		from.seen[id] = true
		six := f.Family == 6
		flows = append(flows, TrackedFlow{
			Client: netip.AddrPortFrom(NetAddr(f.Src, six), Port(f.SrcPort)), VIP: netip.AddrPortFrom(NetAddr(f.Dst, six), Port(f.DstPort)),
			Proto: f.Proto, Real: real, ID: id,
		})
	}
	return flows, more, nil
}
