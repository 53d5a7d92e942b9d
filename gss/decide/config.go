package decide

import (
	"slices"
	"time"
)

// Method is a balance method: how one of several answers is chosen.
type Method string

// The balance methods.
const (
	Ordered     Method = "ordered"      // the first of the group
	RoundRobin  Method = "round-robin"  // all in turn
	Weighted    Method = "weighted"     // by weight
	LeastLoaded Method = "least-loaded" // by weight and headroom
	Hashed      Method = "hashed"       // by the client's address, so that it stays with one
	Nearest     Method = "nearest"      // the first by the order for the client's place
)

// Methods are all balance methods.
func Methods() []Method {
	return []Method{Ordered, RoundRobin, Weighted, LeastLoaded, Hashed, Nearest}
}

// MaxClauses is how many clauses a rule may have.
const MaxClauses = 3

// Config is what is decided about. It must be valid: names that stand for something, at least one clause in each rule and one
// answer in the groups of each rule, positive weights and TTLs. Nothing of it is changed here.
type Config struct {
	Answers []Answer
	Groups  []Group
	Rules   []Rule
	Load    Load
	Vote    Vote
	Digest  string // of all else that records are made of by a decision; the generation moves with it
}

// Answer is one thing that a rule may be answered with: a site's VIP.
type Answer struct {
	Name     string
	Site     string
	Weight   int
	FailBack time.Duration // for which it must be healthy before it serves again
	Manual   bool          // and then it waits for an order to activate
}

// Group is a set of answers that stand for each other, the most wanted first.
type Group struct {
	Name    string
	Answers []string
}

// Rule says what names are answered with. Which names and clients it is for is the caller's.
type Rule struct {
	Name    string
	Clauses []Clause
	// PartOf is a rule before this one, if this one is for some records of it that not all of its answers have: it has the same
	// clauses and places, with groups of those that do.
	PartOf string
}

// Clause is one choice that a rule may make.
type Clause struct {
	Group    string
	Method   Method
	Count    int           // how many answers a client is given, at most; 0: one
	TTL      time.Duration // while all is well
	ShortTTL time.Duration // while something is not, and at the end of a drain
	// Near is for nearest: for each place of clients, by its number, the sites from the nearest on. Place 0 is anywhere else.
	// Sites that are missing come last, in the order of the group.
	Near [][]string
}

// Load says when a load counts.
type Load struct {
	Enter float64       // of the capacity, 0 to 1: from it on an answer is hot
	Leave float64       // below it, it no longer is
	Slew  float64       // of all shares of least-loaded, 0 to 1: how much may move in the time of a TTL
	Fresh time.Duration // how long a report of a balancer counts
}

// Vote says how vantages agree.
type Vote struct {
	Fresh time.Duration // how long what a vantage said counts
	Hold  time.Duration // how long the last agreement holds after that, if too few vantages are heard
}

// DefaultLoad and DefaultVote are for those who do not know better.
func DefaultLoad() Load { return Load{Enter: 0.9, Leave: 0.75, Slew: 0.2, Fresh: 3 * time.Second} }

// DefaultVote finds a site that died together with its GSS out within 2.5s.
func DefaultVote() Vote { return Vote{Fresh: 1500 * time.Millisecond, Hold: time.Second} }

func (c *Config) group(name string) *Group {
	return &c.Groups[slices.IndexFunc(c.Groups, func(g Group) bool { return g.Name == name })]
}

// places is how many places of clients the clause knows.
func (c *Clause) places() int {
	if c.Method != Nearest {
		return 1
	}
	return max(1, len(c.Near))
}

// places is how many places of clients the rule tells apart.
func (r *Rule) places() int {
	n := 1
	for i := range r.Clauses {
		n = max(n, r.Clauses[i].places())
	}
	return n
}

// near ranks a site for a place; less is nearer.
func (c *Clause) near(place int, site string) int {
	if place >= len(c.Near) {
		place = 0
	}
	if place < len(c.Near) {
		if i := slices.Index(c.Near[place], site); i >= 0 {
			return i
		}
		return len(c.Near[place])
	}
	return 0
}

// count is how many answers a client is given at most.
func (c *Clause) count() int { return max(1, c.Count) }
