package bpf

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"
)

// FlowID is what is kept of a tracked flow, by its hash: which pair of buckets it is in, and the tag that tells it from
// others there. See headers/track.h.
type FlowID struct {
	Pair uint32
	Tag  uint64
}

const (
	flowsPerBucket = 8
	trackTag       = 24 // bits below the tag in an entry: the time, and the real
	trackReal      = 12 // bits below the real
)

// trackID gives the bits of a hash in the order in which a flow is stored.
func trackID(hash uint64) uint64 { return bits.RotateLeft64(hash, 64-16) }

// flowPlace gives the bucket, of so many, that a flow is looked for in first, and its tag.
func flowPlace(id uint64, buckets uint32) (uint32, uint64) {
	return uint32(id) & (buckets - 1), id >> trackTag
}

// FlowID gives the identity of the flow with a hash.
func (lb *LB) FlowID(hash uint64) FlowID { return lb.flowID(trackID(hash)) }

func (lb *LB) flowID(id uint64) FlowID {
	bucket, tag := flowPlace(id, lb.flows.MaxEntries())
	return FlowID{bucket / 2, tag}
}

func realOf(entry uint64) uint16 { return uint16(entry >> trackReal & (1<<(trackTag-trackReal) - 1)) }

// StoredFlow gives the index of the real that the flow with a hash is stored with, or 0.
func (lb *LB) StoredFlow(hash uint64) (uint16, error) { return lb.stored(trackID(hash)) }

func (lb *LB) stored(id uint64) (uint16, error) {
	index, tag := flowPlace(id, lb.flows.MaxEntries())
	for _, index := range []uint32{index, index ^ 1} {
		var bucket lbFlowBucket
		if err := lb.flows.Lookup(index, &bucket); err != nil {
			return 0, fmt.Errorf("read a bucket of flows: %w", err)
		}
		for _, entry := range bucket.Entry {
			if entry>>trackTag == tag {
				return realOf(entry), nil
			}
		}
	}
	return 0, nil
}

// StoreFlow stores a flow, as if it had begun in a slot in transition. It may not be called while packets come in.
func (lb *LB) StoreFlow(hash uint64, real uint16) error {
	index, tag := flowPlace(trackID(hash), lb.flows.MaxEntries())
	var bucket lbFlowBucket
	if err := lb.flows.Lookup(index, &bucket); err != nil {
		return fmt.Errorf("read a bucket of flows: %w", err)
	}
	for i, entry := range bucket.Entry {
		if entry == 0 || entry>>trackTag == tag {
			bucket.Entry[i] = tag<<trackTag | uint64(real)<<trackReal
			return lb.flows.Put(index, bucket)
		}
	}
	return errors.New("the bucket of the flow is full")
}

// StoredFlows gives every tracked flow and the index of its real.
func (lb *LB) StoredFlows() (map[FlowID]uint16, error) {
	stored := map[FlowID]uint16{}
	err := lb.eachBuckets(func(indexes []uint32, buckets []lbFlowBucket) error {
		for i, bucket := range buckets {
			for _, entry := range bucket.Entry {
				if entry != 0 {
					stored[FlowID{indexes[i] / 2, entry >> trackTag}] = realOf(entry)
				}
			}
		}
		return nil
	})
	return stored, err
}

// ForgetFlows removes every tracked flow.
func (lb *LB) ForgetFlows() error {
	none := make([]lbFlowBucket, bucketBatch)
	return lb.eachBuckets(func(indexes []uint32, buckets []lbFlowBucket) error {
		for _, bucket := range buckets {
			if bucket != (lbFlowBucket{}) {
				_, err := lb.flows.BatchUpdate(indexes, none[:len(indexes)], nil)
				return err
			}
		}
		return nil // as nearly always: the pages are left alone
	})
}

// bucketBatch is how many buckets are read in one call.
const bucketBatch = 8192

// eachBuckets reads all buckets, many at a time.
func (lb *LB) eachBuckets(do func(indexes []uint32, buckets []lbFlowBucket) error) error {
	indexes, buckets := make([]uint32, bucketBatch), make([]lbFlowBucket, bucketBatch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := lb.flows.BatchLookup(&cursor, indexes, buckets, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read the tracked flows: %w", err)
		}
		if err := do(indexes[:n], buckets[:n]); err != nil {
			return fmt.Errorf("write the tracked flows: %w", err)
		}
		if err != nil {
			return nil
		}
	}
}
