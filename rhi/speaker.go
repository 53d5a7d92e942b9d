package rhi

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
)

const (
	bgpPort = 179

	// anyOwnASN is gobgp's most: how often our AS number may be in the path of a route from a peer that is only watched.
	// v4.8.0 lists those that it rejects for that among the received ones too, which nothing promises.
	anyOwnASN = 255

	// retry is gobgp's least: a peer that comes back is dialled within two seconds.
	retrySeconds = 2

	// TTL security (RFC 5082). A peer that dials us sends with 255 from its SYN on, so what we accept must arrive with
	// 255; gobgp sees to it once it has accepted. What we dial cannot be held to it: a listener answers the SYN with the
	// host's default TTL.
	ttlAccepted = 255
	ttlDialled  = 1
)

// speaker hides gobgp: one server for the life of the role. gobgp takes no heed of contexts and keeps its path
// selection options in package variables, so one process has one speaker.
type speaker struct {
	bgp       *server.BgpServer
	cfg       *Config
	passwords map[string]string // by name of the peer
	six       bool              // IPv6 routes may be there, of peers or own
	served    sync.WaitGroup
}

// startSpeaker starts the server with its policies and, last, its peers. Stop it also when peers never came up.
func startSpeaker(ctx context.Context, cfg *Config, log *slog.Logger) (*speaker, error) {
	passwords, err := cfg.passwords()
	if err != nil {
		return nil, err
	}
	six := slices.ContainsFunc(cfg.allPeers(), func(p peers) bool { return slices.Contains(p.families(), IPv6) })
	s := &speaker{cfg: cfg, passwords: passwords, six: six, bgp: server.NewBgpServer(server.LoggerOption(slog.New(onlyErrors{log.Handler()}), nil))}
	s.served.Go(s.bgp.Serve) // before any other call: each waits for Serve to take it
	if err := s.start(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *speaker) start(ctx context.Context) error {
	global := &api.Global{
		Asn:              s.cfg.ASN,
		RouterId:         s.cfg.RouterID.String(),
		ListenPort:       -1, // dial only: nothing to attack
		UseMultiplePaths: true,
	}
	if global.ListenAddresses = s.cfg.listenAddresses(); len(global.ListenAddresses) > 0 {
		global.ListenPort = bgpPort
	}
	if err := s.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: global}); err != nil {
		return fmt.Errorf("start BGP: %w", err)
	}
	return s.setPolicy(ctx)
}

func (s *speaker) addPeer(ctx context.Context, n Neighbor) error {
	o := s.options(n.peers(), n.Passive)
	peer := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: n.Address.String(), PeerAsn: n.ASN, Description: n.Name, AuthPassword: s.passwords[n.Name]},
		Transport: &api.Transport{PassiveMode: n.Passive},
		Timers:    o.Timers, AfiSafis: o.AfiSafis, TtlSecurity: o.TtlSecurity, EbgpMultihop: o.EbgpMultihop,
	}
	if n.watched() {
		peer.Conf.AllowOwnAsn = anyOwnASN
	}
	if n.Local.IsValid() {
		peer.Transport.LocalAddress = n.Local.String()
	}
	if linkLocal(n.Address) { // else gobgp looks for the link's own address, and gives up for good if it is not there yet
		peer.Transport.LocalAddress = netip.IPv6Unspecified().String()
	}
	if err := s.bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: peer}); err != nil {
		return fmt.Errorf("add peer %s: %w", n.Name, err)
	}
	return nil
}

// addRange lets peers dial from a range. gobgp puts no bound to their number: the role does.
func (s *speaker) addRange(ctx context.Context, d Dynamic) error {
	group := s.options(d.peers(), true)
	group.Conf = &api.PeerGroupConf{PeerGroupName: d.Name, PeerAsn: d.ASN, AuthPassword: s.passwords[d.Name]}
	if err := s.bgp.AddPeerGroup(ctx, &api.AddPeerGroupRequest{PeerGroup: group}); err != nil {
		return fmt.Errorf("add dynamic peers %s: %w", d.Name, err)
	}
	dynamic := &api.DynamicNeighbor{Prefix: d.Prefix.String(), PeerGroup: d.Name}
	if err := s.bgp.AddDynamicNeighbor(ctx, &api.AddDynamicNeighborRequest{DynamicNeighbor: dynamic}); err != nil {
		return fmt.Errorf("add dynamic peers %s: %w", d.Name, err)
	}
	return nil
}

// options are what a neighbor and a range have in common.
func (s *speaker) options(p peers, accepted bool) *api.PeerGroup {
	hold := uint64(s.cfg.Hold / time.Second)
	o := &api.PeerGroup{Timers: &api.Timers{Config: &api.TimersConfig{
		HoldTime: hold, KeepaliveInterval: hold / 3, ConnectRetry: retrySeconds, IdleHoldTimeAfterReset: 1,
	}}}
	for _, f := range p.families() {
		family := apiFamily(f)
		o.AfiSafis = append(o.AfiSafis, &api.AfiSafi{
			Config:       &api.AfiSafiConfig{Family: family, Enabled: true},
			PrefixLimits: &api.PrefixLimit{Family: family, MaxPrefixes: p.MaxPrefixes},
		})
	}
	switch {
	case p.Multihop > 0:
		o.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(p.Multihop)}
	case accepted:
		o.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: ttlAccepted}
	default:
		o.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: ttlDialled}
	}
	return o
}

func apiFamily(f Family) *api.Family {
	afi := api.Family_AFI_IP
	if f == IPv6 {
		afi = api.Family_AFI_IP6
	}
	return &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}
}

// dropPeer ends the session of a dynamic peer, and forgets it if it has none: gobgp keeps every address that ever
// dialled. That it is gone already is no error.
func (s *speaker) dropPeer(ctx context.Context, a netip.Addr) {
	_ = s.bgp.DeletePeer(ctx, &api.DeletePeerRequest{Address: a.String()})
}

// holdPeer ends the session of a neighbor and keeps it down until it is renewed.
func (s *speaker) holdPeer(ctx context.Context, a netip.Addr) error {
	if err := s.bgp.DisablePeer(ctx, &api.DisablePeerRequest{Address: a.String()}); err != nil {
		return fmt.Errorf("keep peer %v down: %w", a, err)
	}
	return nil
}

// renewPeer replaces the state machine of a peer whose session was lost or does not get on. gobgp holds a lost peer idle
// for five seconds that no setting changes, and turns its connections away meanwhile; a new state machine is ready at once.
func (s *speaker) renewPeer(ctx context.Context, n Neighbor) error {
	if err := s.bgp.DeletePeer(ctx, &api.DeletePeerRequest{Address: n.Address.String()}); err != nil {
		return fmt.Errorf("renew peer %s: %w", n.Name, err)
	}
	return s.addPeer(ctx, n)
}

// setPolicy makes the export default a reject, so that the node is never a transit by default, and then accepts own routes
// and, on a router, what `pass` covers. The import policy, which own routes go through too, stops nothing but what comes
// from peers that are only watched.
func (s *speaker) setPolicy(ctx context.Context) error {
	for _, set := range s.definedSets() {
		if err := s.bgp.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
			return fmt.Errorf("define %s: %w", set.Name, err)
		}
	}
	if err := s.setStage(ctx, s.cfg.firstStage()); err != nil {
		return err
	}
	return s.assign(ctx, "import", api.PolicyDirection_POLICY_DIRECTION_IMPORT, importPolicy(s.cfg), api.RouteAction_ROUTE_ACTION_ACCEPT)
}

// setStage has what is sent from now on be as it is at a stage. Peers are not told: see resend.
func (s *speaker) setStage(ctx context.Context, at stage) error {
	name := fmt.Sprintf("export %d", at)
	return s.assign(ctx, name, api.PolicyDirection_POLICY_DIRECTION_EXPORT, exportPolicy(s.cfg, at), api.RouteAction_ROUTE_ACTION_REJECT)
}

// assign makes a policy, with what becomes of routes that no line matches, the one for a direction.
func (s *speaker) assign(ctx context.Context, name string, d api.PolicyDirection, lines []statement, otherwise api.RouteAction) error {
	policy := &api.Policy{Name: name}
	for i, st := range lines {
		policy.Statements = append(policy.Statements, s.statement(fmt.Sprintf("%s %d", name, i), st))
	}
	if err := s.bgp.AddPolicy(ctx, &api.AddPolicyRequest{Policy: policy}); err != nil {
		return fmt.Errorf("add %s policy: %w", name, err)
	}
	err := s.bgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: d, Policies: []*api.Policy{{Name: policy.Name}}, DefaultAction: otherwise,
	}})
	if err != nil {
		return fmt.Errorf("assign %s policy: %w", name, err)
	}
	return nil
}

// definedSets are what the conditions of the policy name.
func (s *speaker) definedSets() []*api.DefinedSet {
	var sets []*api.DefinedSet
	for _, p := range s.cfg.allPeers() {
		sets = append(sets, &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: p.name, List: []string{p.where.String()}})
	}
	for _, m := range s.cfg.markers() {
		sets = append(sets, &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_LARGE_COMMUNITY, Name: m.String(), List: []string{"^" + m.String() + "$"}})
	}
	for _, pass := range s.cfg.passSets() {
		set := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_PREFIX, Name: pass.set}
		for _, p := range pass.Prefixes {
			set.Prefixes = append(set.Prefixes, &api.Prefix{IpPrefix: p.String(), MaskLengthMin: uint32(p.Bits()), MaskLengthMax: uint32(p.Addr().BitLen())})
		}
		sets = append(sets, set)
	}
	return sets
}

func (s *speaker) statement(name string, st statement) *api.Statement {
	when := &api.Conditions{NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: st.to.name}}
	if st.own {
		when.RouteType = api.Conditions_ROUTE_TYPE_LOCAL
	}
	switch {
	case st.own && !st.reject:
		when.LargeCommunitySet = &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: st.marker.String()}
	case !st.reject:
		when.PrefixSet = &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: st.pass}
	}
	if st.family != "" {
		when.AfiSafiIn = []*api.Family{apiFamily(st.family)}
	}
	if st.reject {
		return &api.Statement{Name: name, Conditions: when, Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT}}
	}
	do := &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT}
	if st.own {
		standard, large := st.rung.communities()
		do.Community = &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE, Communities: standard}
		do.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE, Communities: large} // the markers go
	}
	if st.rung.MED != nil {
		do.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE, Value: int64(*st.rung.MED)}
	}
	if st.prepend > 0 {
		do.AsPrepend = &api.AsPrependAction{Asn: s.cfg.ASN, Repeat: uint32(st.prepend)}
	}
	if st.nextHop.IsValid() {
		do.Nexthop = &api.NexthopAction{Address: st.nextHop.String()}
	}
	return &api.Statement{Name: name, Conditions: when, Actions: do}
}

// watch calls onTable after each change of the routing table, onWatched after each update from a peer that is only watched,
// and onPeer for each step of a session, from one goroutine of gobgp's that ends soon after ctx. The callbacks must not
// wait for the speaker.
func (s *speaker) watch(ctx context.Context, onTable func([]heard), onWatched func(), onPeer func(peerChange)) error {
	options := []server.WatchOption{server.WatchBestPath(false), server.WatchPeer()}
	for _, n := range s.cfg.Neighbors {
		if n.watched() { // costs something for each update of any peer
			options = append(options, server.WatchUpdate(false, "", ""), server.WatchEor(false))
			break
		}
	}
	err := s.bgp.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnBestPath: func(paths []*apiutil.Path, _ time.Time) { onTable(heardOf(paths)) },
		OnPathUpdate: func(paths []*apiutil.Path, _ time.Time) {
			if s.cfg.isWatched(paths[0].PeerAddress) {
				onWatched()
			}
		},
		OnPathEor: func(p *apiutil.Path, _ time.Time) {
			if s.cfg.isWatched(p.PeerAddress) {
				onWatched()
			}
		},
		OnPeerUpdate: func(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
			if e.Type != apiutil.PEER_EVENT_STATE {
				return
			}
			st := e.Peer.State
			onPeer(peerChange{
				address: st.NeighborAddress, state: stateName(st.SessionState.String()), reason: inWords(st.DisconnectMessage),
				limit: st.AdminState == api.PeerState_ADMIN_STATE_PFX_CT,
				conn:  connection{uint16(e.Peer.Transport.LocalPort), uint16(e.Peer.Transport.RemotePort), openingSize(e.Peer.State.LocalCap)},
			})
		},
	}, options...)
	if err != nil {
		return fmt.Errorf("watch BGP: %w", err)
	}
	return nil
}

// announce adds own routes, or replaces them in one step; one that stands already is not sent again.
func (s *speaker) announce(prefixes []netip.Prefix, table announceTable) error {
	if len(prefixes) == 0 {
		return nil
	}
	paths, err := ownPaths(prefixes, table, len(s.cfg.groupNames()))
	if err != nil {
		return err
	}
	s.six = s.six || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() })
	if _, err := s.bgp.AddPath(apiutil.AddPathRequest{Paths: paths}); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}

// withdraw removes own routes.
func (s *speaker) withdraw(prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return nil // never a request without paths
	}
	paths, err := ownPaths(prefixes, nil, 0)
	if err != nil {
		return err
	}
	if err := s.bgp.DeletePath(apiutil.DeletePathRequest{Paths: paths}); err != nil {
		return fmt.Errorf("withdraw: %w", err)
	}
	return nil
}

// ownPaths builds the same path for announce and withdraw: gobgp silently withdraws nothing when the identifiers differ.
// Ours is always 0. The next hop 0.0.0.0 or :: becomes the session's own address when it is sent.
func ownPaths(prefixes []netip.Prefix, table announceTable, groups int) ([]*apiutil.Path, error) {
	paths := make([]*apiutil.Path, len(prefixes))
	for i, p := range prefixes {
		nlri, err := bgp.NewIPAddrPrefix(p)
		if err != nil {
			return nil, fmt.Errorf("build route %v: %w", p, err)
		}
		family, nextHop, err := ownNextHop(p, nlri)
		if err != nil {
			return nil, fmt.Errorf("build next hop of %v: %w", p, err)
		}
		attrs := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP), nextHop}
		var markers []*bgp.LargeCommunity
		for group, rung := range table[p] {
			number := uint32(group)
			if group == groups {
				number = ownMED
				attrs = append(attrs, bgp.NewPathAttributeMultiExitDisc(rung))
			}
			markers = append(markers, bgp.NewLargeCommunity(0, number, rung))
		}
		if len(markers) > 0 {
			attrs = append(attrs, bgp.NewPathAttributeLargeCommunities(markers))
		}
		paths[i] = &apiutil.Path{Family: family, Nlri: nlri, Age: time.Now().Unix(), Attrs: attrs}
	}
	return paths, nil
}

func ownNextHop(p netip.Prefix, nlri bgp.NLRI) (bgp.Family, bgp.PathAttributeInterface, error) {
	self := unspecified(p.Addr())
	if self.Is4() {
		a, err := bgp.NewPathAttributeNextHop(self)
		return bgp.RF_IPv4_UC, a, err
	}
	a, err := bgp.NewPathAttributeMpReachNLRI(bgp.RF_IPv6_UC, []bgp.PathNLRI{{NLRI: nlri}}, self)
	return bgp.RF_IPv6_UC, a, err
}

// stop ends all sessions with a Cease, so that peers drop the routes at once, and waits for the server's end.
func (s *speaker) stop() {
	s.bgp.Stop()
	s.served.Wait()
}
