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
	// ID is that of the hash under which it is stored. If the flow's hash has another, the program has just stored another
	// flow in its place, and this is none.
	ID FlowID
}

// TrackedCursor is how far TrackedFlows has come. The zero TrackedCursor is at the beginning.
type TrackedCursor struct{ cursor ebpf.MapBatchCursor }

// TrackedFlows gives some of the stored flows, from where the cursor is, and says whether there may be more. A flow that is
// stored meanwhile may be missed. It may be called concurrently with everything but Close.
func (lb *LB) TrackedFlows(from *TrackedCursor) (flows []TrackedFlow, more bool, err error) {
	indexes, buckets := make([]uint32, bucketBatch), make([]lbFlowBucket, bucketBatch)
	n, err := lb.flows.BatchLookup(&from.cursor, indexes, buckets, nil)
	more = err == nil
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, false, fmt.Errorf("read stored flows: %w", err)
	}
	for i, bucket := range buckets[:n] {
		if bucket == (lbFlowBucket{}) {
			continue
		}
		var names lbFlowOwners
		if err := lb.objs.FlowNames.Lookup(indexes[i], &names); err != nil {
			return nil, false, fmt.Errorf("read stored flows: %w", err)
		}
		for way, entry := range bucket.Entry {
			name := names.Flow[way]
			if entry == 0 || name.Family == 0 {
				continue
			}
			six := name.Family == 6
			flows = append(flows, TrackedFlow{
				Client: netip.AddrPortFrom(NetAddr(name.Src, six), Port(name.SrcPort)), VIP: netip.AddrPortFrom(NetAddr(name.Dst, six), Port(name.DstPort)),
				Proto: name.Proto, Real: realOf(entry), ID: FlowID{indexes[i] / 2, entry >> trackTag},
			})
		}
	}
	return flows, more, nil
}
