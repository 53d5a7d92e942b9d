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
}

// TrackedCursor is how far TrackedFlows has come. The zero TrackedCursor is at the beginning.
type TrackedCursor struct{ cursor ebpf.MapBatchCursor }

// trackedBatch is how many flows are read in one call. The kernel gives whole buckets, and has far smaller ones.
const trackedBatch = 4096

// TrackedFlows gives some of the stored flows, from where the cursor is, and says whether there may be more. A flow that is
// stored meanwhile may be missed. It may be called concurrently with everything but Close.
func (lb *LB) TrackedFlows(from *TrackedCursor) (flows []TrackedFlow, more bool, err error) {
	keys, reals := make([]Flow, trackedBatch), make([]uint32, trackedBatch)
	n, err := lb.Flows.BatchLookup(&from.cursor, keys, reals, nil)
	more = err == nil
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, false, fmt.Errorf("read stored flows: %w", err)
	}
	for i, key := range keys[:n] {
		six := key.Family == 6
		flows = append(flows, TrackedFlow{
			Client: netip.AddrPortFrom(NetAddr(key.Src, six), Port(key.SrcPort)), VIP: netip.AddrPortFrom(NetAddr(key.Dst, six), Port(key.DstPort)),
			Proto: key.Proto, Real: uint16(reals[i]),
		})
	}
	return flows, more, nil
}
