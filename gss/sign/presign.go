package sign

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Use has further replies signed by these keys. All that is pre-signed is signed by them first; it blocks that long, while
// queries are still answered with the signatures of before. An error (ErrUnsigned) says what could not be signed; the keys
// are in use nevertheless, as validators expect them, and such sets are tried again when they are asked for. With the keys that
// are in use, it is Refresh.
func (s *Signer) Use(ctx context.Context, ring Ring, now time.Time) error {
	s.slow.Lock()
	defer s.slow.Unlock()
	old := s.state.Load()
	online := old.online
	if !ring.same(&old.ring) {
		online = newCache(s.cfg.CacheSize)
	}
	return s.again(ctx, old, &state{origin: s.cfg.Origin, ring: ring, online: online}, now)
}

// Refresh signs again what is pre-signed and has less than a quarter of its time left. It is to be called every hour or so:
// an eighth of Config.Validity at most.
func (s *Signer) Refresh(ctx context.Context, now time.Time) error {
	s.slow.Lock()
	defer s.slow.Unlock()
	old := s.state.Load()
	return s.again(ctx, old, &state{origin: s.cfg.Origin, ring: old.ring, online: old.online}, now)
}

// again pre-signs in st what old has, on the caller's thread alone. The caller holds slow.
func (s *Signer) again(ctx context.Context, old, st *state, now time.Time) error {
	signed := s.signed.Load()
	pinned, added := newBatch(len(old.pinned)), newBatch(len(old.added))
	for key := range old.pinned {
		if !old.isApex([]byte(key)) {
			pinned.keys = append(pinned.keys, []byte(key))
		}
	}
	for key := range old.added {
		added.keys = append(added.keys, []byte(key))
	}
	if err := s.addApex(st, pinned); err != nil {
		return err
	}
	var err, more error
	if st.pinned, err = s.signAhead(ctx, 1, st, pinned, old, now); err != nil && !errors.Is(err, ErrUnsigned) {
		return err // nothing has changed
	}
	if st.added, more = s.signAhead(ctx, 1, st, added, old, now); more != nil && !errors.Is(more, ErrUnsigned) {
		return more
	}
	s.change.Lock()
	defer s.change.Unlock()
	if err := s.addLate(ctx, st, s.state.Load(), now); err != nil {
		return err
	}
	s.state.Store(st)
	if s.signed.Load() != signed || !st.ring.same(&old.ring) {
		s.renewed.Add(1)
	}
	return errors.Join(err, more)
}

// addLate pre-signs in st what was added to the state that it replaces while it was made. The caller holds change.
func (s *Signer) addLate(ctx context.Context, st, now *state, at time.Time) error {
	late := newBatch(0)
	for key, e := range now.added {
		if st.added[key] == nil {
			late.keys = append(late.keys, []byte(key))
			late.ttls[key] = e.ttl
		}
	}
	if len(late.keys) == 0 {
		return nil
	}
	more, err := s.signAhead(ctx, s.cfg.Workers, st, late, now, at)
	if err != nil && !errors.Is(err, ErrUnsigned) {
		return err
	}
	added := maps.Clone(st.added)
	if added == nil {
		added = map[string]*entry{}
	}
	maps.Copy(added, more)
	st.added = added
	return nil
}

// Presign signs the sets which replies will be made of, so that those cost no crypto: it is called with all of the zone's
// sets that may be asked for, and NSEC for its names. Signatures of sets that were known before are kept; those of sets
// that are not among these any more are forgotten. Sets are whole RRsets, each with its full TTL. As they may be many, it works on
// the caller's thread alone.
func (s *Signer) Presign(ctx context.Context, sets iter.Seq[[]dns.RR], now time.Time) error {
	s.slow.Lock()
	defer s.slow.Unlock()
	old := s.state.Load()
	st := &state{origin: s.cfg.Origin, ring: old.ring, online: old.online}
	b, wrong := s.batch(sets)
	if err := s.addApex(st, b); err != nil {
		return err
	}
	var err error
	if st.pinned, err = s.signAhead(ctx, 1, st, b, old, now); err != nil && !errors.Is(err, ErrUnsigned) {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()
	st.added = s.state.Load().added
	s.state.Store(st)
	return errors.Join(wrong, err)
}

const addedShare = 16 // of the cache's size, so that a copy of what was added is quick

// Add is Presign for sets that come beside those which are pre-signed, at each change of state: it costs as much as they
// are, not as the zone is, and waits for none of the above. They are forgotten when a sixteenth of Config.CacheSize is full.
func (s *Signer) Add(ctx context.Context, sets [][]dns.RR, now time.Time) error {
	s.change.Lock()
	defer s.change.Unlock()
	old := s.state.Load()
	st := *old
	b, wrong := s.batch(slices.Values(sets))
	b.keys = slices.DeleteFunc(b.keys, func(key []byte) bool {
		e := old.ahead(key)
		return e != nil && b.ttls[string(key)] <= e.ttl && s.fresh(old, key, e, now)
	})
	if len(b.keys) == 0 {
		return wrong
	}
	added, err := s.signAhead(ctx, s.cfg.Workers, &st, b, old, now)
	if err != nil && !errors.Is(err, ErrUnsigned) {
		return err
	}
	if st.added = added; len(old.added)+len(added) <= s.cfg.CacheSize/addedShare {
		st.added = maps.Clone(old.added)
		if st.added == nil {
			st.added = map[string]*entry{}
		}
		maps.Copy(st.added, added)
	}
	s.state.Store(&st)
	return errors.Join(wrong, err)
}

// batch is sets that are to be signed, by their keys.
type batch struct {
	keys [][]byte
	ttls map[string]uint32 // none for the TTL of before
}

func newBatch(size int) *batch {
	return &batch{keys: make([][]byte, 0, size+3), ttls: map[string]uint32{}}
}

// batch takes the sets that are the zone's; the error tells of those that are none.
func (s *Signer) batch(sets iter.Seq[[]dns.RR]) (*batch, error) {
	b := newBatch(0)
	var scratch setKey
	var errs []error
	for set := range sets {
		if len(set) == 0 || !within(s.cfg.Origin, set[0].Header().Name) {
			continue
		}
		key, err := scratch.build(set)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", ErrUnsigned, err))
			continue
		}
		b.add(key, s.ttl(set))
	}
	return b, summary(errs)
}

func (b *batch) add(key []byte, ttl uint32) {
	before, twice := b.ttls[string(key)]
	if !twice {
		b.keys = append(b.keys, slices.Clone(key))
	}
	b.ttls[string(key)] = max(before, ttl)
}

// addApex adds the ring's own sets.
func (s *Signer) addApex(st *state, b *batch) error {
	records := st.ring.Records(s.cfg.Origin)
	for len(records) > 0 {
		n := 1
		for n < len(records) && sameSet(records[0], records[n]) {
			n++
		}
		var scratch setKey
		key, err := scratch.build(records[:n])
		if err != nil {
			return fmt.Errorf("sign the keys: %w", err)
		}
		st.apex = append(st.apex, records[0].Header().Rrtype)
		b.add(key, s.ttl(records[:n]))
		records = records[n:]
	}
	return nil
}

// signAhead signs a batch with the ring of st, by several workers; one is the caller's goroutine. An error that is not ErrUnsigned
// says that ctx has ended.
func (s *Signer) signAhead(ctx context.Context, number int, st *state, b *batch, old *state, now time.Time) (map[string]*entry, error) {
	entries := make([]*entry, len(b.keys))
	var next atomic.Int64
	var workers errgroup.Group
	var mu sync.Mutex
	var errs []error
	work := func() error {
		for i := int(next.Add(1)) - 1; i < len(b.keys); i = int(next.Add(1)) - 1 {
			if err := ctx.Err(); err != nil {
				return err
			}
			key := b.keys[i]
			e, err := s.renew(st, key, b.ttls[string(key)], old.ahead(key), now)
			entries[i] = e
			if err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		}
		return nil
	}
	for range min(number, len(b.keys)) - 1 {
		workers.Go(work)
	}
	if err := errors.Join(work(), workers.Wait()); err != nil {
		return nil, fmt.Errorf("sign ahead: %w", err)
	}
	signed := make(map[string]*entry, len(b.keys))
	for i, e := range entries {
		if e != nil {
			signed[string(b.keys[i])] = e
		}
	}
	return signed, summary(errs)
}

// summary keeps an error short when every set fails for the same reason.
func summary(errs []error) error {
	if len(errs) > 3 {
		return fmt.Errorf("%w, and %d sets more", errors.Join(errs[:3]...), len(errs)-3)
	}
	return errors.Join(errs...)
}

// fresh says whether signatures are those that the ring would make, and have time left.
func (s *Signer) fresh(st *state, key []byte, e *entry, now time.Time) bool {
	return e.madeBy(st.signers(key)) && e.left(now) >= s.cfg.Validity/refreshShare
}

// renew gives the entry of a set under the ring of st: the old one if it will do.
func (s *Signer) renew(st *state, key []byte, ttl uint32, old *entry, now time.Time) (*entry, error) {
	if old == nil {
		old = st.online.get(key)
	}
	if old != nil {
		ttl = max(ttl, old.ttl)
	}
	if old != nil && ttl <= old.ttl && s.fresh(st, key, old, now) {
		return old, nil
	}
	signers := st.signers(key)
	e, err := s.make(signers, key, ttl, now)
	if err != nil && old.madeBy(signers) && old.left(now) > 0 {
		return old, err // the last good one
	}
	return e, err
}
