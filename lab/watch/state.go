package watch

import "time"

// Health says how something is, in one word; colours and sums are made of it.
type Health string

// How a thing may be.
const (
	Well Health = "well"
	Poor Health = "poor" // works, but somebody should look
	Bad  Health = "bad"  // does not work
)

// worse gives the worse of two.
func worse(a, b Health) Health {
	for _, h := range []Health{Bad, Poor} {
		if a == h || b == h {
			return h
		}
	}
	return Well
}

// State is what a lab looks like at one moment.
type State struct {
	Lab     string    `json:"lab"`
	At      time.Time `json:"at"`
	TookMS  float64   `json:"took_ms"` // to find all this out
	Sites   []Site    `json:"sites"`
	Nodes   []Node    `json:"nodes"` // in the topology's order
	VIPs    []VIP     `json:"vips"`
	Reals   []Real    `json:"reals"`
	Routes  []Route   `json:"routes"` // of VIPs, at routers
	Names   []Name    `json:"names"`
	Answers []Answer  `json:"answers"`
	LUNs    []LUN     `json:"luns"`
	Links   []Link    `json:"links"`  // those that are not up
	Events  []Event   `json:"events"` // the last ones, the newest last
}

// Site is a group of the topology: a data centre, or what is outside.
type Site struct {
	Name      string `json:"name"`
	Health    Health `json:"health"`
	Nodes     int    `json:"nodes"`
	Well      int    `json:"well"`      // nodes that are
	Announced int    `json:"announced"` // VIPs that a balancer of the site announces
	VIPs      int    `json:"vips"`      // that its balancers know
	Serving   int    `json:"serving"`   // answers of the site that selectors give
	Answers   int    `json:"answers"`
	Why       string `json:"why,omitempty"` // what is not well
}

// Node is one node and what its roles say.
type Node struct {
	Name   string `json:"name"`
	Site   string `json:"site"`
	Layer  string `json:"layer"`
	Pod    string `json:"pod,omitempty"`
	Kind   string `json:"kind"` // "lb", "mx", …: what it is there for
	Health Health `json:"health"`
	State  string `json:"state"` // "up", "slow", "killed", "off", "hangs", "cut", "failing" or "gone"
	Why    string `json:"why,omitempty"`
	Roles  []Role `json:"roles"`
}

// Role is one role's process.
type Role struct {
	Name  string `json:"name"`
	State string `json:"state"` // "up", "slow", "failing", "hangs" or "down"
	Why   string `json:"why,omitempty"`
}

// VIP is one address, over all the balancers that have it.
type VIP struct {
	Address   string   `json:"address"`
	Ports     []Port   `json:"ports"`
	Health    Health   `json:"health"`
	Sites     []string `json:"sites"` // from where it is announced
	Balancers []VIPAt  `json:"balancers"`
}

// Port is what is answered at an address of a VIP.
type Port struct {
	Name string `json:"name"`
	Port string `json:"port"` // "25/tcp"
}

// VIPAt is a VIP at one balancer.
type VIPAt struct {
	Balancer  string `json:"balancer"`
	Site      string `json:"site"`
	Announced bool   `json:"announced"`
	Place     string `json:"place"` // on the ladder; empty when the balancer announces nothing itself
	Active    int    `json:"active_reals"`
	Why       string `json:"why"`
}

// Real is one real in one farm, as the balancers of its site see it.
type Real struct {
	Site    string    `json:"site"`
	Pod     string    `json:"pod,omitempty"`
	Farm    string    `json:"farm"`
	Name    string    `json:"name"`
	Address string    `json:"address"`
	Health  Health    `json:"health"`
	State   string    `json:"state"`
	Why     string    `json:"why"`
	Since   time.Time `json:"since"`
	Share   float64   `json:"share"`
	Flows   *int      `json:"flows"`             // over all balancers; null: no agent says
	Differs []string  `json:"differs,omitempty"` // balancers that see another state, "east-lb2: failed"
}

// Route is how a router reaches some VIPs: those with the same next hops.
type Route struct {
	Router string   `json:"router"`
	Site   string   `json:"site"`
	VIPs   []string `json:"vips"`
	Via    []string `json:"via"` // names of neighbours where they are known, else addresses
	Kernel bool     `json:"in_kernel"`
}

// Name is what the site selectors answer for a name.
type Name struct {
	Name    string   `json:"name"`
	Rule    string   `json:"rule"`
	TTL     int      `json:"ttl_seconds"`
	Answers []NameAt `json:"answers"`
}

// NameAt is what one selector answers.
type NameAt struct {
	Selector string `json:"selector"`
	Answer   string `json:"answer"`
	Basis    string `json:"basis"`
	Why      string `json:"why"`
}

// Answer is one answer, as the selectors see it.
type Answer struct {
	Name    string   `json:"name"`
	Site    string   `json:"site"`
	Address string   `json:"address"`
	Health  Health   `json:"health"`
	Place   string   `json:"place"`
	Why     string   `json:"why"`
	Differs []string `json:"differs,omitempty"` // selectors that have it in another place
}

// LUN is one storage pool, as its active store sees it; or the replica with the highest term when none is active.
type LUN struct {
	Name     string    `json:"name"`
	Health   Health    `json:"health"`
	Active   string    `json:"active"` // empty: none
	Since    time.Time `json:"active_since,omitzero"`
	TwoSite  string    `json:"two_site"` // "both sites", "exposed", "alone: refusing", or empty
	Exposed  uint64    `json:"exposed_operations"`
	Mail     int64     `json:"messages"`
	Boxes    int       `json:"mailboxes"`
	Replicas []Replica `json:"replicas"` // none: a plain store
	Why      string    `json:"why,omitempty"`
}

// Replica is one replica of a LUN.
type Replica struct {
	Name    string `json:"name"`
	Site    string `json:"site"`
	Health  Health `json:"health"`
	State   string `json:"state"` // "active", "follows", "witness", "unfit" or "lost"
	Lag     uint64 `json:"lag"`
	Missing int    `json:"missing"` // bodies
	Why     string `json:"why,omitempty"`
}

// Link is a link that is not up.
type Link struct {
	A     string `json:"a"`
	B     string `json:"b"`
	State string `json:"state"`
}

// Event is a line of a node's log that says that something changed.
type Event struct {
	At    time.Time `json:"at"`
	Node  string    `json:"node"`
	Role  string    `json:"role,omitempty"`
	Level string    `json:"level"`
	Text  string    `json:"text"` // the message, and what stands with it
}
