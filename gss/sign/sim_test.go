package sign

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// sim is a zone with servers that are late, a parent that scans for CDS and is late, and everything that caches may hold of
// them. It knows nothing of how Next keeps its records.
type sim struct {
	t      *testing.T
	rnd    *rand.Rand
	now    time.Time
	policy Policy
	truth  lies
	state  State
	keys   int
	algs   map[string]uint8
	last   Decision
	dnskey [3]timeline // by server
	data   [3]timeline
	cds    [3]timeline
	ds     [3]timeline // by server of the parent; the last is not asked for observations
	// the parent takes requests in their order
	requests []Request
	scanned  int // the last of them that the parent read
	pending  []pendingDS
	trail    []string
	failed   string
	rolls    int
	active   map[string]bool
	stuck    time.Time // until when some server is later than it should be, which is known
}

// lies are how much longer things take in truth than the policy says.
type lies struct {
	propagation, parent, dataTTL, keyTTL, parentTTL time.Duration
	unordered                                       bool
	silent                                          bool // servers that are stuck do not tell
}

type pendingDS struct {
	at   time.Time
	keys []string
}

// timeline is what one server answered, and from when. The last one may be in the future.
type timeline []served

type served struct {
	from time.Time
	keys []string
	ttl  time.Duration
	nr   int // of a request
}

// add has the server answer otherwise from a time on, but not before what it was told before.
func (l *timeline) add(v served) {
	if n := len(*l); n > 0 && v.from.Before((*l)[n-1].from) {
		v.from = (*l)[n-1].from
	}
	*l = append(*l, v)
}

// cached gives what a cache may hold at a time, of this server, and forgets what it cannot hold any more.
func (l *timeline) cached(now time.Time) (vs []served) {
	for len(*l) > 1 && !now.Before((*l)[1].from.Add((*l)[0].ttl)) {
		*l = (*l)[1:]
	}
	for i, v := range *l {
		if !now.Before(v.from) && (i == len(*l)-1 || now.Before((*l)[i+1].from.Add(v.ttl))) {
			vs = append(vs, v)
		}
	}
	return vs
}

// at is what the server answers at a time.
func (l timeline) at(now time.Time) served {
	i := len(l) - 1
	for i > 0 && now.Before(l[i].from) {
		i--
	}
	return l[i]
}

func (w *sim) chance(n int) bool { return w.rnd.IntN(n) == 0 }

// upTo is a random time up to d.
func (w *sim) upTo(d time.Duration) time.Duration {
	if d <= 0 || w.chance(4) {
		return max(d, 0)
	}
	return time.Duration(w.rnd.Int64N(int64(d) + 1))
}

func (w *sim) randomPolicy() Policy {
	hour := time.Hour
	p := Policy{
		Algorithm: dns.ECDSAP256SHA256,
		KeyTTL:    time.Second + w.upTo(48*hour), MaxTTL: time.Second + w.upTo(72*hour), Propagation: w.upTo(12 * hour),
		ParentTTL: time.Second + w.upTo(72*hour), ParentPropagation: w.upTo(24 * hour), Registration: w.upTo(72 * hour),
	}
	if w.chance(3) { // seconds
		p.KeyTTL, p.MaxTTL, p.Propagation = time.Second, time.Second, 0
	}
	if !w.chance(4) {
		p.Lifetime = p.rollTime() + w.upTo(2000*hour)
	}
	if w.chance(3) {
		p.Algorithm = dns.ED25519
	}
	return p
}

func newSim(t *testing.T, seed uint64, truth lies) *sim {
	w := &sim{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), now: epoch, truth: truth, scanned: -1}
	w.algs, w.active = map[string]uint8{}, map[string]bool{}
	w.policy = w.randomPolicy()
	for i := range 3 {
		for _, l := range []*timeline{&w.dnskey[i], &w.data[i], &w.cds[i], &w.ds[i]} {
			l.add(served{from: epoch, ttl: w.policy.MaxTTL, nr: -1})
		}
		w.ds[i][0].ttl = w.policy.ParentTTL
	}
	return w
}

func (w *sim) note(format string, args ...any) {
	w.trail = append(w.trail, fmt.Sprintf("%10v ", w.now.Sub(epoch).Round(time.Second))+fmt.Sprintf(format, args...))
	if len(w.trail) > 60 {
		w.trail = w.trail[1:]
	}
}

// act calls Next, and has the servers do what it says.
func (w *sim) act(observed *Observation) {
	if w.chance(5) { // a restart
		text, err := w.state.Encode()
		if err != nil {
			w.t.Fatal(err)
		}
		if w.state.Keys != nil {
			if w.state, err = DecodeState(text); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	in := Inputs{Policy: w.policy, Observed: observed}
	if !w.truth.silent {
		in.Behind = w.stuck
	}
	before := w.state.clone()
	s, d := Next(w.state, in, w.now)
	if !reflect.DeepEqual(before, w.state) {
		w.t.Fatal("Next changed its argument")
	}
	if d.Need != 0 {
		w.keys++
		in.Observed, in.Spare = nil, &Spare{ID: keyID("example.net.", d.Need, uint16(w.keys)), Algorithm: d.Need}
		w.algs[in.Spare.ID] = d.Need
		s, d = Next(s, in, w.now)
	}
	w.state = s
	in.Spare, in.Observed = nil, nil
	if w.chance(10) {
		if again, d2 := Next(s, in, w.now); again.Serial != s.Serial || !reflect.DeepEqual(d2, Look(s, w.policy, w.now)) {
			w.t.Fatalf("a second look changes (-first +second, and -Look +second):\n%s\n%s",
				cmp.Diff(s, again), cmp.Diff(Look(s, w.policy, w.now), d2))
		}
	}
	if reflect.DeepEqual(d, w.last) {
		return
	}
	if !same(d.DNSKEY, w.last.DNSKEY) || !same(d.Data, w.last.Data) || !reflect.DeepEqual(d.Request, w.last.Request) {
		w.note("DNSKEY %v data %v request %v %v", d.DNSKEY, d.Data, d.Request.Keys, d.Request.Delete)
	}
	w.serve(d)
}

// serve has each server answer by a decision, at its own time.
func (w *sim) serve(d Decision) {
	if !reflect.DeepEqual(d.Request, w.last.Request) {
		w.requests = append(w.requests, d.Request)
	}
	w.last = d
	for _, k := range d.Keys {
		if k.State == Active && !w.active[k.ID] {
			w.active[k.ID] = true
			w.rolls++
		}
	}
	for i := range 3 {
		from := w.now.Add(w.upTo(w.policy.Propagation + w.truth.propagation))
		if w.chance(40) {
			from = from.Add(w.upTo(300 * time.Hour))
		}
		ttl := func(keys []string, ttl, more time.Duration) time.Duration {
			if len(keys) == 0 {
				ttl = w.policy.MaxTTL
			}
			return ttl + more
		}
		w.dnskey[i].add(served{from: from, keys: d.DNSKEY, ttl: ttl(d.DNSKEY, w.policy.KeyTTL, w.truth.keyTTL)})
		w.data[i].add(served{from: from, keys: d.Data, ttl: ttl(d.Data, w.policy.MaxTTL, w.truth.dataTTL)})
		w.cds[i].add(served{from: from, ttl: w.policy.KeyTTL, nr: len(w.requests) - 1})
		if from = w.cds[i][len(w.cds[i])-1].from; from.After(w.now.Add(w.policy.Propagation + w.truth.propagation)) {
			w.stuck = later(w.stuck, from)
		}
	}
}

// scan has the parent read CDS, from a cache perhaps.
func (w *sim) scan() {
	found := w.cds[w.rnd.IntN(3)].cached(w.now)
	nr := found[w.rnd.IntN(len(found))].nr
	if w.truth.unordered && w.chance(5) && len(w.requests) > 0 {
		nr = w.rnd.IntN(len(w.requests))
	}
	if nr < 0 || nr <= w.scanned && !w.truth.unordered || nr == w.scanned {
		return
	}
	w.scanned = nr
	if r := w.requests[nr]; r.Delete || len(r.Keys) > 0 {
		at := w.now.Add(w.upTo(w.policy.Registration))
		if n := len(w.pending); n > 0 && at.Before(w.pending[n-1].at) {
			at = w.pending[n-1].at
		}
		w.pending = append(w.pending, pendingDS{at, r.Keys})
	}
}

// register has the parent do what is due.
func (w *sim) register() {
	for len(w.pending) > 0 && !w.now.Before(w.pending[0].at) {
		keys := w.pending[0].keys
		w.pending = w.pending[1:]
		w.note("the parent has %v", keys)
		last, ttl := w.now, w.policy.ParentTTL+w.truth.parentTTL
		for i := range 2 {
			w.ds[i].add(served{from: w.now.Add(w.upTo(6 * time.Hour)), keys: keys, ttl: ttl})
			if f := w.ds[i][len(w.ds[i])-1].from; f.After(last) {
				last = f
			}
		}
		w.ds[2].add(served{from: last.Add(w.upTo(w.policy.ParentPropagation) + w.truth.parent), keys: keys, ttl: ttl})
	}
}

// observe is what asking the parent's servers gives.
func (w *sim) observe() *Observation {
	o := &Observation{At: w.now, Complete: true}
	for i := range 2 {
		if w.chance(10) {
			o.Complete = false
			continue
		}
		if keys := w.ds[i].at(w.now).keys; !slices.ContainsFunc(o.Sets, func(s []string) bool { return same(s, keys) }) {
			o.Sets = append(o.Sets, keys)
		}
	}
	return o
}

// check has a validator with each combination of caches validate.
func (w *sim) check() bool {
	sets := func(ls *[3]timeline) (all [][]string) {
		for i := range ls {
			for _, v := range ls[i].cached(w.now) {
				if !slices.ContainsFunc(all, func(s []string) bool { return same(s, v.keys) }) {
					all = append(all, v.keys)
				}
			}
		}
		return all
	}
	dss, keys, datas := sets(&w.ds), sets(&w.dnskey), sets(&w.data)
	for _, ds := range dss {
		for _, ks := range keys {
			for _, data := range datas {
				if why := w.refuses(ds, ks, data); why != "" {
					w.failed = fmt.Sprintf("DS %v, DNSKEY %v, data signed by %v: %s", ds, ks, data, why)
					return false
				}
			}
		}
	}
	return true
}

// refuses says why a strict validator (RFC 4035 section 2.2 to the letter) does not validate.
func (w *sim) refuses(ds, keys, data []string) string {
	if len(ds) == 0 {
		return ""
	}
	signedBy := map[uint8]bool{} // algorithms by which the DNSKEY set is signed with a key that DS points at
	for _, k := range keys {
		if slices.Contains(ds, k) {
			signedBy[w.algs[k]] = true
		}
	}
	for _, k := range ds {
		if !signedBy[w.algs[k]] {
			return "no way in by the algorithm of " + k
		}
	}
	dataBy := map[uint8]bool{}
	for _, k := range data {
		if slices.Contains(keys, k) {
			dataBy[w.algs[k]] = true
		}
	}
	for _, k := range keys {
		if !dataBy[w.algs[k]] {
			return "no signature by the algorithm of " + k
		}
	}
	return ""
}
