package watch

import "time"

// What is read of the roles' answers: the keys that the command `anycastle show` prints with -o json. The roles' own
// types are not ours to import; a key that is missing leaves its field empty.

type lbVIP struct {
	Name      string `json:"name"`
	Address   string `json:"address"`
	Protocol  string `json:"protocol"`
	Port      string `json:"port"`
	Announced bool   `json:"announced"`
	Reason    string `json:"reason"`
	Active    int    `json:"active_reals"`
}

type lbReal struct {
	Farm    string    `json:"farm"`
	Name    string    `json:"name"`
	Address string    `json:"address"`
	State   string    `json:"state"`
	Why     string    `json:"why"`
	Since   time.Time `json:"since"`
	Share   float64   `json:"share"`
	Flows   *int      `json:"flows"`
}

type lbAnnouncement struct {
	VIP    string   `json:"vip"` // a prefix
	Place  string   `json:"place"`
	Why    string   `json:"why"`
	Alarms []string `json:"alarms"`
}

type rhiRoute struct {
	Prefix   string   `json:"prefix"`
	NextHops []string `json:"next_hops"`
	Source   string   `json:"source"`
	InKernel bool     `json:"in_kernel"`
}

type rhiPeer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	State   string `json:"state"`
}

type gssAnswer struct {
	Name      string   `json:"name"`
	Site      string   `json:"site"`
	Addresses []string `json:"addresses"`
	Place     string   `json:"place"`
	Why       string   `json:"why"`
}

type gssRule struct {
	Name    string   `json:"name"`
	Domains []string `json:"domains"`
	Type    string   `json:"type"`
	Near    string   `json:"near"`
	Sources []string `json:"sources"`
	Basis   string   `json:"basis"`
	Answers []struct {
		Answer string `json:"answer"`
		Of1000 int    `json:"of_1000"`
	} `json:"answers"`
	TTL int    `json:"ttl_seconds"`
	Why string `json:"why"`
}

type storeLUN struct {
	Name      string       `json:"name"`
	Mailboxes int          `json:"mailboxes"`
	Messages  int64        `json:"messages"`
	Stopped   string       `json:"stopped"`
	Replica   *lunReplicas `json:"replica"`
}

type lunReplicas struct {
	Self        string    `json:"self"`
	Active      string    `json:"active"`
	ActiveSince time.Time `json:"active_since"`
	Serving     bool      `json:"serving"`
	Refuses     string    `json:"refuses"`
	Term        uint64    `json:"term"`
	TwoSite     struct {
		State      string `json:"state"`
		Operations uint64 `json:"operations"`
	} `json:"two_site"`
	Members []struct {
		Name    string    `json:"name"`
		Site    string    `json:"site"`
		Witness bool      `json:"witness"`
		Self    bool      `json:"self"`
		Active  bool      `json:"active"`
		Voter   bool      `json:"voter"`
		Lag     uint64    `json:"lag"`
		Missing int       `json:"missing"`
		Heard   time.Time `json:"heard"`
		Fit     bool      `json:"fit"`
		Why     string    `json:"why"`
	} `json:"replicas"`
}

// found is what one node's roles have said; a list is nil when nobody was there to say it.
type found struct {
	roles         []Role
	vips          []lbVIP
	reals         []lbReal
	announcements []lbAnnouncement
	routes        []rhiRoute
	peers         []rhiPeer
	answers       []gssAnswer
	rules         []gssRule
	luns          []storeLUN
}
