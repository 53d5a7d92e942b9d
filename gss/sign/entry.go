package sign

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// entry is the signatures of one set. It is never changed. A nil entry is none.
type entry struct {
	ttl    uint32 // original TTL: the greatest that the set was signed for
	labels uint8
	sigs   []signature
}

type signature struct {
	key                   *Key
	inception, expiration uint32
	value                 string // base64
}

// left is for how long the signatures are valid still; 0 if they are not valid yet, as the clock was set back.
func (e *entry) left(now time.Time) time.Duration {
	if e == nil || len(e.sigs) == 0 || int32(uint32(now.Unix())-e.sigs[0].inception) < 0 {
		return 0
	}
	// serial arithmetic of 32 bits (RFC 4034 section 3.1.5)
	return time.Duration(int32(e.sigs[0].expiration-uint32(now.Unix()))) * time.Second
}

// madeBy says whether these keys, and no others, made the signatures.
func (e *entry) madeBy(keys []*Key) bool {
	return e != nil && slices.EqualFunc(e.sigs, keys, func(s signature, k *Key) bool { return s.key.same(k) })
}

// append adds the RRSIG records for a set with that owner and TTL. They are the caller's to change.
func (e *entry) append(rrs []dns.RR, h *dns.RR_Header, ttl uint32) []dns.RR {
	records := make([]dns.RRSIG, len(e.sigs))
	for i, sig := range e.sigs {
		records[i] = dns.RRSIG{
			Hdr:         dns.RR_Header{Name: h.Name, Rrtype: dns.TypeRRSIG, Class: h.Class, Ttl: ttl},
			TypeCovered: h.Rrtype, Algorithm: sig.key.record.Algorithm, Labels: e.labels, OrigTtl: e.ttl,
			Expiration: sig.expiration, Inception: sig.inception, KeyTag: sig.key.tag, SignerName: sig.key.record.Hdr.Name,
			Signature: sig.value,
		}
		rrs = append(rrs, &records[i])
	}
	return rrs
}

// make signs a set with all of the keys.
func (s *Signer) make(keys []*Key, key []byte, ttl uint32, now time.Time) (*entry, error) {
	set, err := unpack(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsigned, err)
	}
	for _, rr := range set {
		rr.Header().Ttl = ttl
	}
	h := set[0].Header()
	inception, expiration := now.Add(-s.cfg.Skew), now.Add(s.cfg.Validity-s.jitter(key))
	e := &entry{ttl: ttl, labels: uint8(dns.CountLabel(h.Name))}
	if strings.HasPrefix(h.Name, "*.") {
		e.labels-- // RFC 4034 section 3.1.3
	}
	for _, k := range keys {
		sig, err := k.sign(set, ttl, inception, expiration)
		s.signed.Add(1)
		if err != nil {
			return nil, fmt.Errorf("%w: sign %s %s with %s: %w", ErrUnsigned, h.Name, dns.Type(h.Rrtype), k.ID(), err)
		}
		e.sigs = append(e.sigs, signature{key: k, inception: sig.Inception, expiration: sig.Expiration, value: sig.Signature})
	}
	return e, nil
}

// jitter is a part of Validity that depends on the set only, so that several servers of the zone agree.
func (s *Signer) jitter(key []byte) time.Duration {
	h := fnv.New32a()
	h.Write(key)
	part := s.cfg.Validity / jitterShare
	return time.Duration(float64(part) * float64(h.Sum32()) / (1 << 32))
}

// ttl is the greatest TTL of a set, with the bound of Config.
func (s *Signer) ttl(set []dns.RR) uint32 {
	var ttl uint32
	for _, rr := range set {
		ttl = max(ttl, rr.Header().Ttl)
	}
	return min(ttl, s.maxTTL())
}

func (s *Signer) maxTTL() uint32 { return uint32(s.cfg.MaxTTL / time.Second) }

// keyHeader gives where the owner of a set's key ends, its root label included, and the type.
func keyHeader(key []byte) (end int, rrtype uint16) {
	for key[end] != 0 {
		end += 1 + int(key[end])
	}
	return end + 1, binary.BigEndian.Uint16(key[end+1:])
}

// isApex says whether a set is one of those that the ring makes.
func (st *state) isApex(key []byte) bool {
	end, rrtype := keyHeader(key)
	switch rrtype {
	case dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY:
	default:
		return false
	}
	name, _, err := dns.UnpackDomainName(key[:end], 0)
	return err == nil && name == st.origin
}

// signers are the keys that sign a set. CDS and CDNSKEY are signed by all that the parent may know (RFC 7344 section 4.1).
func (st *state) signers(key []byte) []*Key {
	if st.isApex(key) {
		return st.ring.Apex
	}
	return st.ring.Data
}

// apexTypes are the types that the ring adds at a name.
func (st *state) apexTypes(name string) []uint16 {
	if equalFold(name, st.origin) {
		return st.apex
	}
	return nil
}

// cache holds signatures of sets that were not pre-signed, such as denials of names that do not exist. When it is full, any
// one makes room: a flood of random names has nothing to gain from a better order.
type cache struct {
	seed   maphash.Seed
	shards [cacheShards]shard
	room   int // of a shard
}

const cacheShards = 16

type shard struct {
	mu      sync.Mutex
	entries map[string]*entry
}

func newCache(size int) *cache {
	c := &cache{seed: maphash.MakeSeed(), room: max(1, size/cacheShards)}
	for i := range c.shards {
		c.shards[i].entries = map[string]*entry{}
	}
	return c
}

func (c *cache) shard(key []byte) *shard { return &c.shards[maphash.Bytes(c.seed, key)%cacheShards] }

func (c *cache) get(key []byte) *entry {
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.entries[string(key)]
}

func (c *cache) put(key []byte, e *entry) {
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, known := sh.entries[string(key)]; !known && len(sh.entries) >= c.room {
		for other := range sh.entries {
			delete(sh.entries, other)
			break
		}
	}
	sh.entries[string(key)] = e
}
