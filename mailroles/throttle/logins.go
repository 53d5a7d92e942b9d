package throttle

import (
	"crypto/sha256"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// firstWait is the first delay; each further failure doubles it, up to maxWait.
	firstWait = time.Second
	maxWait   = 8 * time.Second
	// knownTime is how long a source stays known to an account after a login.
	knownTime = 7 * 24 * time.Hour
	// checkTime is the longest that a check is under way; after that nobody will say how it ended.
	checkTime = time.Minute
)

// limit says what failures lead to. Checks that are under way count too, or else many guesses could be made at once; but they
// count for little, since after a front end has moved all clients of a site log in at once.
type limit struct {
	free   int           // failures that cost nothing
	most   int           // failures that are remembered at most
	refuse bool          // with most failures nothing is checked any more
	forget time.Duration // in which one failure is forgotten
	share  int           // checks under way that count as one failure
}

var (
	ofPair    = limit{free: 3, most: 10, refuse: true, forget: 6 * time.Minute, share: 4}
	ofSource  = limit{free: 15, most: 30, refuse: true, forget: time.Minute, share: 16}
	ofAccount = limit{free: 20, most: 24, forget: time.Minute, share: 16}
)

// score is what is known of one source, account or pair.
type score struct {
	failures float64
	at       time.Time // when failures was right
	pending  int       // checks under way
	asked    time.Time // when the last of them began
}

func (s *score) empty() bool { return s.failures == 0 && s.pending == 0 }

// account is a short form of a name, which may be as long as a client likes.
type account [16]byte

type pair struct {
	source  netip.Prefix
	account account
}

// Logins remembers who failed to log in. The zero Logins is ready. Every Check that is ok is followed by one of Failed,
// Succeeded and Undecided within a minute.
type Logins struct {
	mu       sync.Mutex
	sources  table[netip.Prefix, score]
	accounts table[account, score]
	pairs    table[pair, score]
	known    table[pair, time.Time] // when they last logged in
}

// Check is asked before a password is checked. The caller lets wait pass first; when ok is false it refuses the login unseen.
func (l *Logins) Check(source netip.Addr, name string) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	p := pairOf(source, name)
	scores := l.scores(p, now)
	if since, ok := l.known.find(p); ok && now.Sub(since) < knownTime {
		if wait, ok = ofPair.judge(score{failures: scores[0].failures}); !ok {
			return 0, false
		}
	} else {
		for i, s := range scores {
			w, ok := limits[i].judge(*s)
			if !ok {
				return 0, false
			}
			wait = max(wait, w)
		}
	}
	for _, s := range scores {
		s.pending++
		s.asked = now
	}
	return wait, true
}

// Failed says that the password was wrong, or the account unknown.
func (l *Logins) Failed(source netip.Addr, name string) {
	l.settle(source, name, func(_ pair, scores [3]*score) {
		for i, s := range scores {
			s.failures = min(s.failures+1, float64(limits[i].most))
		}
	})
}

// Succeeded says that the password was right. What others did from the source, or to the account, is not forgotten by that.
func (l *Logins) Succeeded(source netip.Addr, name string) {
	l.settle(source, name, func(p pair, scores [3]*score) {
		scores[0].failures = 0
		*l.known.get(p) = time.Now()
	})
}

// Undecided says that the password could not be checked.
func (l *Logins) Undecided(source netip.Addr, name string) {
	l.settle(source, name, func(pair, [3]*score) {})
}

func (l *Logins) settle(source netip.Addr, name string, apply func(pair, [3]*score)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := pairOf(source, name)
	scores := l.scores(p, time.Now())
	for _, s := range scores {
		s.pending = max(s.pending-1, 0) // a full table may have forgotten it
	}
	apply(p, scores)
	if scores[0].empty() {
		l.pairs.remove(p)
	}
	if scores[1].empty() {
		l.sources.remove(p.source)
	}
	if scores[2].empty() {
		l.accounts.remove(p.account)
	}
}

// limits are those of the scores that scores gives.
var limits = [3]limit{ofPair, ofSource, ofAccount}

// scores gives the scores of a pair, its source and its account, with what was forgotten until now taken off.
func (l *Logins) scores(p pair, now time.Time) [3]*score {
	list := [3]*score{l.pairs.get(p), l.sources.get(p.source), l.accounts.get(p.account)}
	for i, s := range list {
		gone := float64(now.Sub(s.at)) / float64(limits[i].forget)
		s.failures, s.at = max(s.failures-gone, 0), now
		if now.Sub(s.asked) >= checkTime {
			s.pending = 0
		}
	}
	return list
}

// judge says how long a check has to wait, and whether there may be one.
func (l limit) judge(s score) (wait time.Duration, ok bool) {
	n := int(math.Ceil(s.failures)) + s.pending/l.share
	if l.refuse && n >= l.most {
		return 0, false
	}
	if n <= l.free {
		return 0, true
	}
	return min(firstWait<<min(n-l.free-1, 16), maxWait), true
}

func pairOf(source netip.Addr, name string) pair {
	source = source.Unmap().WithZone("")
	bits := 32
	if source.Is6() {
		bits = 64
	}
	p, err := source.Prefix(bits)
	if err != nil { // the zero address: all that are not known are one
		p = netip.Prefix{}
	}
	sum := sha256.Sum256([]byte(strings.ToLower(name)))
	return pair{source: p, account: account(sum[:16])}
}
