package rhi

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
)

const (
	bgpPort = 179

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
	bgp    *server.BgpServer
	cfg    *Config
	served sync.WaitGroup
}

// peerChange is a step of a session's state machine.
type peerChange struct {
	address netip.Addr
	state   string
	reason  string
}

// startSpeaker starts the server with its policies and, last, its peers. Stop it also when peers never came up.
func startSpeaker(ctx context.Context, cfg *Config, log *slog.Logger) (*speaker, error) {
	s := &speaker{cfg: cfg, bgp: server.NewBgpServer(server.LoggerOption(slog.New(onlyErrors{log.Handler()}), nil))}
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
	for _, n := range s.cfg.Neighbors {
		if any := unspecified(n.Address).String(); n.Passive && !slices.Contains(global.ListenAddresses, any) {
			global.ListenPort, global.ListenAddresses = bgpPort, append(global.ListenAddresses, any)
		}
	}
	if err := s.bgp.StartBgp(ctx, &api.StartBgpRequest{Global: global}); err != nil {
		return fmt.Errorf("start BGP: %w", err)
	}
	return s.setPolicy(ctx)
}

// addPeers lets the sessions begin. Before it, nothing that is announced leaves the node.
func (s *speaker) addPeers(ctx context.Context) error {
	for _, n := range s.cfg.Neighbors {
		if err := s.addPeer(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (s *speaker) addPeer(ctx context.Context, n Neighbor) error {
	hold := uint64(s.cfg.Hold / time.Second)
	ttl := uint32(ttlDialled)
	if n.Passive {
		ttl = ttlAccepted
	}
	peer := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: n.Address.String(), PeerAsn: n.ASN, Description: n.Name},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: hold, KeepaliveInterval: hold / 3, ConnectRetry: retrySeconds, IdleHoldTimeAfterReset: 1,
		}},
		Transport:   &api.Transport{PassiveMode: n.Passive},
		TtlSecurity: &api.TtlSecurity{Enabled: true, TtlMin: ttl},
	}
	if err := s.bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: peer}); err != nil {
		return fmt.Errorf("add peer %s: %w", n.Name, err)
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
// and, on a router, what `pass` covers. An import policy would also stop the own routes.
func (s *speaker) setPolicy(ctx context.Context) error {
	own := &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL}
	allowed := []*api.Conditions{own}
	if s.cfg.Router != nil && len(s.cfg.Router.Pass) > 0 {
		set := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_PREFIX, Name: "pass"}
		for _, p := range s.cfg.Router.Pass {
			set.Prefixes = append(set.Prefixes, &api.Prefix{
				IpPrefix: p.String(), MaskLengthMin: uint32(p.Bits()), MaskLengthMax: uint32(p.Addr().BitLen()),
			})
		}
		if err := s.bgp.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
			return fmt.Errorf("define pass: %w", err)
		}
		allowed = append(allowed, &api.Conditions{PrefixSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: set.Name}})
	}
	policy := &api.Policy{Name: "export"}
	for _, n := range s.cfg.Neighbors { // the peers' own statements first: the first match decides
		if n.Prepend == 0 {
			continue
		}
		set := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: "to " + n.Name, List: []string{netip.PrefixFrom(n.Address, n.Address.BitLen()).String()}}
		if err := s.bgp.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
			return fmt.Errorf("define neighbor %s: %w", n.Name, err)
		}
		for _, c := range allowed {
			policy.Statements = append(policy.Statements, accept(&api.Conditions{
				RouteType: c.RouteType, PrefixSet: c.PrefixSet,
				NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: set.Name},
			}, &api.AsPrependAction{Asn: s.cfg.ASN, Repeat: uint32(n.Prepend)}))
		}
	}
	for _, c := range allowed {
		policy.Statements = append(policy.Statements, accept(c, nil))
	}
	for i, st := range policy.Statements {
		st.Name = fmt.Sprintf("export %d", i)
	}
	if err := s.bgp.AddPolicy(ctx, &api.AddPolicyRequest{Policy: policy}); err != nil {
		return fmt.Errorf("add export policy: %w", err)
	}
	err := s.bgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_EXPORT,
		Policies: []*api.Policy{{Name: policy.Name}}, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
	}})
	if err != nil {
		return fmt.Errorf("assign export policy: %w", err)
	}
	return nil
}

func accept(when *api.Conditions, prepend *api.AsPrependAction) *api.Statement {
	return &api.Statement{Conditions: when, Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT, AsPrepend: prepend}}
}

// watch calls onTable after each change of the routing table and onPeer for each step of a session, from one goroutine
// of gobgp's that ends soon after ctx. The callbacks must not wait for the speaker.
func (s *speaker) watch(ctx context.Context, onTable func(), onPeer func(peerChange)) error {
	err := s.bgp.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnBestPath: func([]*apiutil.Path, time.Time) { onTable() },
		OnPeerUpdate: func(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
			if e.Type != apiutil.PEER_EVENT_STATE {
				return
			}
			st := e.Peer.State
			onPeer(peerChange{address: st.NeighborAddress, state: stateName(st.SessionState.String()), reason: st.DisconnectMessage})
		},
	}, server.WatchBestPath(false), server.WatchPeer())
	if err != nil {
		return fmt.Errorf("watch BGP: %w", err)
	}
	return nil
}

// announce adds own routes; one that stands already is not sent again.
func (s *speaker) announce(prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return nil
	}
	paths, err := ownPaths(prefixes)
	if err != nil {
		return err
	}
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
	paths, err := ownPaths(prefixes)
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
func ownPaths(prefixes []netip.Prefix) ([]*apiutil.Path, error) {
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
		paths[i] = &apiutil.Path{
			Family: family, Nlri: nlri, Age: time.Now().Unix(),
			Attrs: []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP), nextHop},
		}
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

// unspecified is 0.0.0.0 or ::, of the family of a.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// paths reads the routing table back: per prefix the own path, or the next hops of all best learned paths.
func (s *speaker) paths() ([]path, error) {
	v4, err := s.pathsOf(bgp.RF_IPv4_UC)
	if err != nil {
		return nil, err
	}
	v6, err := s.pathsOf(bgp.RF_IPv6_UC)
	return append(v4, v6...), err
}

func (s *speaker) pathsOf(family bgp.Family) ([]path, error) {
	var list []path
	err := s.bgp.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: family},
		func(nlri bgp.NLRI, found []*apiutil.Path) {
			prefix, err := netip.ParsePrefix(nlri.String())
			if err != nil {
				return // no unicast prefix: nothing that we asked for
			}
			p := path{prefix: prefix}
			for _, f := range found {
				own := !f.PeerAddress.IsValid()
				p.own = p.own || own
				if hop, ok := nextHop(f); ok && f.Best && !own {
					p.nextHops = append(p.nextHops, hop)
				}
			}
			list = append(list, p)
		})
	if err != nil {
		return nil, fmt.Errorf("list paths: %w", err)
	}
	return list, nil
}

func nextHop(p *apiutil.Path) (netip.Addr, bool) {
	for _, a := range p.Attrs {
		switch hop := a.(type) {
		case *bgp.PathAttributeNextHop:
			return hop.Value, hop.Value.Is4() && !hop.Value.IsUnspecified()
		case *bgp.PathAttributeMpReachNLRI:
			return hop.Nexthop, hop.Nexthop.Is6() && !hop.Nexthop.IsUnspecified()
		}
	}
	return netip.Addr{}, false
}

// peerCount is what stands received from and sent to a peer now.
type peerCount struct{ received, sent int }

func (s *speaker) peers(ctx context.Context) (map[netip.Addr]peerCount, error) {
	peers := map[netip.Addr]peerCount{}
	err := s.bgp.ListPeer(ctx, &api.ListPeerRequest{EnableAdvertised: true}, func(p *api.Peer) {
		addr, err := netip.ParseAddr(p.GetConf().GetNeighborAddress())
		if err != nil {
			return
		}
		var c peerCount
		for _, f := range p.GetAfiSafis() {
			c.received += int(f.GetState().GetReceived())
			c.sent += int(f.GetState().GetAdvertised())
		}
		peers[addr] = c
	})
	if err != nil {
		return nil, fmt.Errorf("list peers: %w", err)
	}
	return peers, nil
}

// stop ends all sessions with a Cease, so that peers drop the routes at once, and waits for the server's end.
func (s *speaker) stop() {
	s.bgp.Stop()
	s.served.Wait()
}

// stateName turns gobgp's SESSION_STATE_IDLE and BGP_FSM_IDLE into idle.
func stateName(s string) string {
	return strings.ToLower(s[strings.LastIndexByte(s, '_')+1:])
}

// onlyErrors keeps gobgp's chatter out of our log: the role itself logs what matters of it, and at gobgp's warn level a
// peer could fill the disk, with a line per connection that is turned away.
type onlyErrors struct{ slog.Handler }

func (h onlyErrors) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && h.Handler.Enabled(ctx, l)
}

func (h onlyErrors) WithAttrs(attrs []slog.Attr) slog.Handler {
	return onlyErrors{h.Handler.WithAttrs(attrs)}
}

func (h onlyErrors) WithGroup(name string) slog.Handler {
	return onlyErrors{h.Handler.WithGroup(name)}
}
