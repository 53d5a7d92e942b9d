package mailroles

import (
	"cmp"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"anycastle/internal/config"
	"anycastle/mailroles/drain"
	"anycastle/mailroles/queue"
)

// LUN says where the store of a LUN listens, and which replicas it has.
type LUN struct {
	Name  string         `yaml:"name"`
	LMTP  netip.AddrPort `yaml:"lmtp"`
	IMAP  netip.AddrPort `yaml:"imap"`
	Queue netip.AddrPort `yaml:"queue"` // where it takes its users' mail for others; submission needs it

	// Replicas keep the LUN together, and whoever of them is active takes the addresses above. None: one store has it alone.
	// The mail replicas stand in order of preference, those of the home site first.
	Replicas        []ReplicaConfig `yaml:"replicas"`
	TwoSite         TwoSite         `yaml:"two_site"`          // when the other site is gone; default wait
	SwitchBackAfter time.Duration   `yaml:"switch_back_after"` // how long a preferred replica must be well to be given the LUN back; default 30s
	CatchUpRate     int64           `yaml:"catch_up_rate"`     // bytes a second that a replica fetches to catch up; default 50000000
	ScrubEvery      time.Duration   `yaml:"scrub_every"`       // how often the sites are compared, and every body read; default 168h
	Times           *ReplicaTimes   `yaml:"replica_times"`     // nil: those of a real network
}

// ReplicaConfig is a member of a LUN's group.
type ReplicaConfig struct {
	Name    string         `yaml:"name"`    // of the node that has it
	Site    string         `yaml:"site"`    // where that is
	Addr    netip.AddrPort `yaml:"addr"`    // where its process takes the other replicas' connections
	Witness bool           `yaml:"witness"` // it votes and never has mail
}

// TwoSite is what a LUN does when the other site is gone.
type TwoSite string

// The policies.
const (
	Wait   TwoSite = "wait"   // nothing is acknowledged
	Expose TwoSite = "expose" // it goes on, counts what only one site has, and says so
)

// ReplicaTimes are the times of a LUN's group. A lab may shorten them.
type ReplicaTimes struct {
	Heartbeat time.Duration `yaml:"heartbeat"` // without which a replica asks for votes; default 600ms
	Election  time.Duration `yaml:"election"`  // after which it asks for them again; default 600ms
	Lease     time.Duration `yaml:"lease"`     // how long the active one may serve without a quorum's answer; default 400ms
	Commit    time.Duration `yaml:"commit"`    // after which followers are told of the commit at the latest; default 10ms
	State     time.Duration `yaml:"state"`     // after which replicas tell each other how far they are at the latest; default 100ms
}

// WitnessConfig is the witness of LUNs.
type WitnessConfig struct {
	Node          string            `yaml:"node"`           // its name in the replicas of the LUNs
	Path          string            `yaml:"path"`           // directory of its logs, which must exist
	ReplicaListen config.ListenAddr `yaml:"replica_listen"` // for the replicas; default ":7400"
}

// StoreConfig is the store of one LUN that has no replicas, or of all replicas of a node.
type StoreConfig struct {
	LUN           string            `yaml:"lun"`            // which of the LUNs; or node
	Node          string            `yaml:"node"`           // the name in the replicas of the LUNs that this process has
	Path          string            `yaml:"path"`           // directory of the LUN's mail, or of a directory for each LUN; it must exist
	ReplicaListen config.ListenAddr `yaml:"replica_listen"` // for the other replicas; default ":7400"
	LMTPListen    config.ListenAddr `yaml:"lmtp_listen"`    // default ":2424"; of a LUN with replicas its own address is used
	IMAPListen    config.ListenAddr `yaml:"imap_listen"`    // default ":1993"
	QueueListen   config.ListenAddr `yaml:"queue_listen"`   // LMTP of the queue, where the LUN has one; default ":2425"
	Queue         queue.Config      `yaml:"queue"`          // how the queue sends
	MaxSize       int64             `yaml:"max_size"`       // largest message in bytes; default 52428800, as for smtp
	MaxSessions   int               `yaml:"max_sessions"`   // LMTP sessions, and as many IMAP sessions; default 10000
	Drain         drain.Config      `yaml:",inline"`
}

// SetDefaults implements config.Defaulter.
func (l *LUN) SetDefaults() {
	*l = LUN{TwoSite: Wait, SwitchBackAfter: 30 * time.Second, CatchUpRate: 50_000_000, ScrubEvery: 7 * 24 * time.Hour}
}

// SetDefaults implements config.Defaulter.
func (t *ReplicaTimes) SetDefaults() {
	*t = ReplicaTimes{
		Heartbeat: 600 * time.Millisecond, Election: 600 * time.Millisecond,
		Lease: 400 * time.Millisecond, Commit: 10 * time.Millisecond, State: 100 * time.Millisecond,
	}
}

// SetDefaults implements config.Defaulter.
func (c *WitnessConfig) SetDefaults() { c.ReplicaListen = config.AnyAddr(7400) }

// SetDefaults implements config.Defaulter.
func (c *StoreConfig) SetDefaults() {
	*c = StoreConfig{LMTPListen: config.AnyAddr(2424), IMAPListen: config.AnyAddr(1993), MaxSize: defaultMaxSize, MaxSessions: 10000}
	c.ReplicaListen = config.AnyAddr(7400)
	c.QueueListen = config.AnyAddr(2425)
	c.Queue.SetDefaults()
	c.Drain.SetDefaults()
}

func (c *Config) validateLUNs(at config.Cursor) {
	if len(c.LUNs) == 0 {
		at.Errorf("no LUN; list at least one, with name, lmtp and imap")
	}
	seen := map[string]bool{}
	for i, l := range c.LUNs {
		at := at.Index(i)
		if l.Name == "" {
			at.Key("name").Errorf("missing; give the LUN a name such as lun-east")
		} else if seen[l.Name] {
			at.Key("name").Errorf("two LUNs are called %q; rename one", l.Name)
		}
		seen[l.Name] = true
		if !l.LMTP.IsValid() {
			at.Key("lmtp").Errorf("missing; write where the store listens, such as 198.51.100.19:2424")
		}
		if !l.IMAP.IsValid() {
			at.Key("imap").Errorf("missing; write where the store listens, such as 198.51.100.19:1993")
		}
		if l.Replicas != nil {
			l.validateReplicas(at)
		} else {
			l.validateAlone(at)
		}
	}
	c.validateMembers(at)
	c.validateServices(at)
}

// validateAlone refuses what says nothing of a LUN that one store has alone.
func (l *LUN) validateAlone(at config.Cursor) {
	if l.TwoSite != "" && l.TwoSite != Wait {
		at.Key("two_site").Errorf("%s has one store and one site; list replicas, or remove it", l.Name)
	}
	if l.Times != nil {
		at.Key("replica_times").Errorf("%s has no replicas; list some, or remove it", l.Name)
	}
}

// validateReplicas looks at the group of one LUN.
func (l *LUN) validateReplicas(at config.Cursor) {
	if l.Name != "" && (strings.ContainsAny(l.Name, "/ \t") || l.Name[0] == '.') {
		at.Key("name").Errorf("%q cannot be the name of a directory; the replicas keep the LUN in one", l.Name)
	}
	if l.TwoSite != "" && l.TwoSite != Wait && l.TwoSite != Expose {
		at.Key("two_site").Errorf("%q must be wait or expose", l.TwoSite)
	}
	names, witnesses := map[string]bool{}, 0
	sites := map[string]bool{}
	for i, r := range l.Replicas {
		at := at.Key("replicas").Index(i)
		switch {
		case r.Name == "" || strings.ContainsFunc(r.Name, func(c rune) bool { return c <= ' ' || c > '~' }):
			at.Key("name").Errorf("%q is no name of a node; write one such as east-store1", r.Name)
		case names[r.Name]:
			at.Key("name").Errorf("%s has two replicas of the LUN; each needs a node of its own", r.Name)
		}
		names[r.Name] = true
		if r.Site == "" {
			at.Key("site").Errorf("missing; write which data centre it is in, such as east")
		}
		if !r.Addr.IsValid() || r.Addr.Addr().IsUnspecified() || r.Addr.Port() == 0 {
			at.Key("addr").Errorf("missing; write where the others reach it, such as 10.1.0.11:7400")
		}
		if r.Witness {
			witnesses++
		} else {
			sites[r.Site] = true
		}
	}
	if len(l.Replicas) < 3 {
		at.Key("replicas").Errorf("%d are too few to go on when one is lost; list at least three, of which one may be a witness", len(l.Replicas))
	}
	if witnesses > 1 {
		at.Key("replicas").Errorf("%d witnesses; one is enough, and more could outvote those that have the mail", witnesses)
	}
	if len(sites) < 2 {
		at.Key("replicas").Errorf("the replicas that have mail are at one site; put at least one at another, or nothing could be acknowledged")
	}
	l.validateTimes(at)
}

func (l *LUN) validateTimes(at config.Cursor) {
	if l.SwitchBackAfter < 0 || l.SwitchBackAfter > 24*time.Hour {
		at.Key("switch_back_after").Errorf("%v must be from 0s to 24h", l.SwitchBackAfter)
	}
	if l.CatchUpRate != 0 && l.CatchUpRate < 64<<10 {
		at.Key("catch_up_rate").Errorf("%d must be at least 65536 bytes a second", l.CatchUpRate)
	}
	if l.ScrubEvery != 0 && l.ScrubEvery < time.Minute {
		at.Key("scrub_every").Errorf("%v must be at least 1m", l.ScrubEvery)
	}
	if l.Times == nil {
		return
	}
	t, at := l.Times, at.Key("replica_times")
	for _, x := range []struct {
		key string
		is  time.Duration
	}{{"heartbeat", t.Heartbeat}, {"election", t.Election}, {"lease", t.Lease}, {"commit", t.Commit}, {"state", t.State}} {
		if x.is < 5*time.Millisecond || x.is > 10*time.Second {
			at.Key(x.key).Errorf("%v must be from 5ms to 10s", x.is)
		}
	}
	if t.State > time.Second {
		at.Key("state").Errorf("%v is more than 1s, and who is silent for 2s is gone", t.State)
	}
	if t.Lease > t.Heartbeat {
		at.Key("lease").Errorf("%v is more than heartbeat, %v; another could be elected while the lease holds", t.Lease, t.Heartbeat)
	}
}

// validateMembers has a node be the same in all LUNs: it has one process for them.
func (c *Config) validateMembers(at config.Cursor) {
	known := map[string]ReplicaConfig{}
	holders := map[netip.AddrPort]string{}
	for i, l := range c.LUNs {
		for j, r := range l.Replicas {
			at := at.Index(i).Key("replicas").Index(j)
			first, ok := known[r.Name]
			if !ok {
				known[r.Name] = r
			} else if first != r {
				at.Errorf("%s is at %s, %v in another LUN; a node has one place, one address and one role", r.Name, first.Site, first.Addr)
			}
			if other, ok := holders[r.Addr]; ok && other != r.Name && r.Addr.IsValid() {
				at.Key("addr").Errorf("%v is %s's; give each node its own", r.Addr, other)
			}
			holders[r.Addr] = r.Name
		}
	}
}

// validateServices has the addresses of LUNs with replicas be their own: they go from server to server, each LUN by itself.
func (c *Config) validateServices(at config.Cursor) {
	whose := map[netip.Addr]string{}
	taken := map[netip.Addr]bool{}
	for i, l := range c.LUNs {
		ports := map[netip.AddrPort]string{}
		for _, s := range []struct {
			key  string
			addr netip.AddrPort
		}{{"lmtp", l.LMTP}, {"imap", l.IMAP}, {"queue", l.Queue}} {
			if !s.addr.IsValid() {
				continue
			}
			at, ip := at.Index(i).Key(s.key), s.addr.Addr()
			other, ok := whose[ip]
			if ok && other != l.Name && (l.Replicas != nil || taken[ip]) && !ip.IsLoopback() {
				at.Errorf("%v is %s's, too; an address moves with its LUN, so give each its own", ip, other)
			}
			if l.Replicas == nil {
				whose[ip] = l.Name
				continue
			}
			if ip.IsUnspecified() || ip.IsMulticast() {
				at.Errorf("%v cannot be taken by whoever is active; write an address of the LUN's own", ip)
			}
			if first, ok := ports[s.addr]; ok {
				at.Errorf("is the same as %s; give each its own port", first)
			}
			whose[ip], taken[ip], ports[s.addr] = l.Name, true, s.key
		}
	}
}

func (c *Config) validateStore(at config.Cursor) {
	s := c.Store
	if s.Node != "" {
		if s.LUN != "" {
			at.Key("lun").Errorf("node says already which LUNs this is a store of; remove one of the two")
		}
		c.validateNode(at, s.Node, false)
	} else if s.LUN == "" {
		at.Key("lun").Errorf("missing; write which LUN this is the store of, or with node: which of the replicas")
	} else if l, ok := c.lun(s.LUN); !ok {
		at.Key("lun").Errorf("no LUN is called %q; known are %s", s.LUN, strings.Join(c.lunNames(), ", "))
	} else if l.Replicas != nil {
		at.Key("lun").Errorf("%s has replicas; write which of them this is with node: instead", l.Name)
	}
	if st, err := os.Stat(s.Path); err != nil || !st.IsDir() {
		at.Key("path").Errorf("%q is no directory; mount or make it", s.Path)
	}
	if s.LMTPListen == s.IMAPListen {
		at.Key("imap_listen").Errorf("is the same as lmtp_listen; give each its own port")
	}
	if s.QueueListen == s.LMTPListen || s.QueueListen == s.IMAPListen {
		at.Key("queue_listen").Errorf("is the same as another address of the store; give each its own port")
	}
	s.Queue.Validate(at.Key("queue"))
	validateLimits(at, s.MaxSize, s.MaxSessions)
	s.Drain.Validate(at)
}

func (c *Config) validateWitness(at config.Cursor) {
	c.validateNode(at, c.Witness.Node, true)
	if st, err := os.Stat(c.Witness.Path); err != nil || !st.IsDir() {
		at.Key("path").Errorf("%q is no directory; mount or make it", c.Witness.Path)
	}
}

// validateNode looks whether a LUN has a replica of a name.
func (c *Config) validateNode(at config.Cursor, node string, witness bool) {
	var known []string
	for _, l := range c.LUNs {
		for _, r := range l.Replicas {
			if r.Witness == witness {
				known = append(known, r.Name)
			}
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	if !slices.Contains(known, node) {
		what := "mail replica"
		if witness {
			what = "witness"
		}
		at.Key("node").Errorf("no LUN has a %s %q; known are %s", what, node, cmp.Or(strings.Join(known, ", "), "none"))
	}
}

func (c *Config) lun(name string) (LUN, bool) {
	for _, l := range c.LUNs {
		if l.Name == name {
			return l, true
		}
	}
	return LUN{}, false
}

func (c *Config) lunNames() []string {
	var names []string
	for _, l := range c.LUNs {
		names = append(names, l.Name)
	}
	return names
}

// replicated gives the LUNs of which a node has a replica.
func (c *Config) replicated(node string) []LUN {
	var list []LUN
	for _, l := range c.LUNs {
		if slices.ContainsFunc(l.Replicas, func(r ReplicaConfig) bool { return r.Name == node }) {
			list = append(list, l)
		}
	}
	return list
}

// ServiceAddrs gives the addresses of the LUNs that a node has replicas of.
func (c *Config) ServiceAddrs(node string) []netip.Addr {
	var list []netip.Addr
	for _, l := range c.replicated(node) {
		for _, a := range []netip.AddrPort{l.LMTP, l.IMAP, l.Queue} {
			if a.IsValid() && !slices.Contains(list, a.Addr()) {
				list = append(list, a.Addr())
			}
		}
	}
	return list
}
