package rhi

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// paths reads the routing table back: per prefix the own path, or the next hops of all best learned paths.
func (s *speaker) paths() ([]path, error) {
	list, err := s.pathsOf(bgp.RF_IPv4_UC)
	if err != nil || !s.six {
		return list, err
	}
	v6, err := s.pathsOf(bgp.RF_IPv6_UC)
	return append(list, v6...), err
}

func (s *speaker) pathsOf(family bgp.Family) ([]path, error) {
	list := []path{}
	err := s.bgp.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: family},
		func(nlri bgp.NLRI, found []*apiutil.Path) {
			prefix, err := netip.ParsePrefix(nlri.String())
			if err != nil {
				return // no unicast prefix: nothing that we asked for
			}
			p := path{prefix: prefix}
			for _, f := range found {
				own := !f.PeerAddress.IsValid()
				if own {
					p.own, p.markers = true, markers(f)
				}
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

func markers(p *apiutil.Path) (list []marker) {
	for _, a := range p.Attrs {
		if large, ok := a.(*bgp.PathAttributeLargeCommunities); ok {
			for _, c := range large.Values {
				list = append(list, marker{c.LocalData1, c.LocalData2})
			}
		}
	}
	return list
}

// nextHop gives that of a learned path. Only a link-local session says which link a link-local one is on. Over such a
// session a peer may give a global next hop or none beside a link-local one, which gobgp v4.8.0 drops
// (table_manager.go:107): the peer itself leads there too.
func nextHop(p *apiutil.Path) (netip.Addr, bool) {
	for _, a := range p.Attrs {
		switch hop := a.(type) {
		case *bgp.PathAttributeNextHop:
			return hop.Value, hop.Value.Is4() && !hop.Value.IsUnspecified()
		case *bgp.PathAttributeMpReachNLRI:
			addr, link := hop.Nexthop, p.PeerAddress.Zone()
			switch {
			case linkLocal(addr):
				return addr.WithZone(link), link != ""
			case link != "":
				return p.PeerAddress, true
			}
			return addr, addr.Is6() && !addr.Is4In6() && !addr.IsUnspecified()
		}
	}
	return netip.Addr{}, false
}

// bgpSession is what the speaker knows of a session that is established.
type bgpSession struct {
	began    time.Time // to the second
	flaps    uint32    // how often one before it ended
	families []Family  // that both ends take
	complete bool      // the peer has said that it has sent its whole table
	noHold   bool      // the peer asked for hold time 0, so that there are no keepalives (RFC 4271 4.2)
}

// same says whether b is the session that a was.
func (a bgpSession) same(b bgpSession) bool { return a.began.Equal(b.began) && a.flaps == b.flaps }

// sessions lists those that are established: all, or the one with a peer.
func (s *speaker) sessions(ctx context.Context, with netip.Addr) (map[netip.Addr]bgpSession, error) {
	list, only := map[netip.Addr]bgpSession{}, ""
	if with.IsValid() {
		only = with.String()
	}
	err := s.bgp.ListPeer(ctx, &api.ListPeerRequest{Address: only}, func(p *api.Peer) {
		st := p.GetState()
		addr, err := netip.ParseAddr(st.GetNeighborAddress())
		if err != nil || st.GetSessionState() != api.PeerState_SESSION_STATE_ESTABLISHED {
			return
		}
		timers := p.GetTimers().GetState()
		b := bgpSession{began: timers.GetUptime().AsTime(), flaps: st.GetFlops(), complete: true, noHold: timers.GetNegotiatedHoldTime() == 0}
		for _, f := range p.GetAfiSafis() {
			family := f.GetConfig().GetFamily()
			if !takes(st.GetRemoteCap(), family) {
				continue
			}
			b.complete = b.complete && f.GetMpGracefulRestart().GetState().GetEndOfRibReceived()
			if b.families = append(b.families, IPv4); family.GetAfi() == api.Family_AFI_IP6 {
				b.families[len(b.families)-1] = IPv6
			}
		}
		list[addr] = b
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return list, nil
}

// takes says whether a peer exchanges routes of a family. One that names none takes IPv4 (RFC 4760 8).
func takes(capabilities []*api.Capability, f *api.Family) bool {
	named := false
	for _, c := range capabilities {
		if m := c.GetMultiProtocol(); m != nil {
			named = true
			if m.GetFamily().GetAfi() == f.GetAfi() && m.GetFamily().GetSafi() == f.GetSafi() {
				return true
			}
		}
	}
	return !named && f.GetAfi() == api.Family_AFI_IP
}

// received lists what stands received from a peer, whatever became of it.
func (s *speaker) received(peer netip.Addr, families []Family) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, f := range families {
		family := bgp.RF_IPv4_UC
		if f == IPv6 {
			family = bgp.RF_IPv6_UC
		}
		err := s.bgp.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_ADJ_IN, Name: peer.String(), Family: family},
			func(nlri bgp.NLRI, _ []*apiutil.Path) {
				if p, err := netip.ParsePrefix(nlri.String()); err == nil {
					list = append(list, p)
				}
			})
		if err != nil {
			return nil, fmt.Errorf("list what %v has sent: %w", peer, err)
		}
	}
	return list, nil
}

func (s *speaker) peers(ctx context.Context) (map[netip.Addr]peerCount, error) {
	peers := map[netip.Addr]peerCount{}
	err := s.bgp.ListPeer(ctx, &api.ListPeerRequest{EnableAdvertised: true}, func(p *api.Peer) {
		addr, err := netip.ParseAddr(p.GetState().GetNeighborAddress()) // a dynamic peer has no other
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

// resend sends a peer all that it is to have.
func (s *speaker) resend(ctx context.Context, a netip.Addr) error {
	err := s.bgp.ResetPeer(ctx, &api.ResetPeerRequest{Address: a.String(), Soft: true, Direction: api.ResetPeerRequest_DIRECTION_OUT})
	if err != nil {
		return fmt.Errorf("send peer %v its routes again: %w", a, err)
	}
	return nil
}

// retract tells all peers of those of the prefixes to which there is no path that they are gone, whether they have them or not.
// gobgp lets a withdrawal through whatever the export policy is. So each gets an own path that goes to nobody, and loses it again;
// should a learned one come meanwhile, that is preferred.
func (s *speaker) retract(prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return nil
	}
	known, err := s.paths()
	if err != nil {
		return err
	}
	gone := newPrefixSet(prefixes)
	for _, p := range known {
		delete(gone, p.prefix)
	}
	if len(gone) == 0 {
		return nil
	}
	list := gone.sorted()
	paths, err := ownPaths(list, nil, 0)
	if err != nil {
		return err
	}
	for _, p := range paths {
		p.Attrs = append(p.Attrs, bgp.NewPathAttributeLocalPref(0))
	}
	if _, err := s.bgp.AddPath(apiutil.AddPathRequest{Paths: paths}); err != nil {
		return fmt.Errorf("retract: %w", err)
	}
	return s.withdraw(list)
}

// heardOf gives what there is to know of paths that are or were among the best, but for the ones that retract makes.
func heardOf(paths []*apiutil.Path) (list []heard) {
	for _, p := range paths {
		prefix, err := netip.ParsePrefix(p.Nlri.String())
		if err != nil {
			continue
		}
		h := heard{source: source{prefix, p.PeerAddress}}
		if !p.Withdrawal {
			sum := fnv.New64a()
			retracted := false
			for _, a := range p.Attrs {
				if lp, ok := a.(*bgp.PathAttributeLocalPref); ok && lp.Value == 0 && !p.PeerAddress.IsValid() {
					retracted = true
				}
				text, err := a.Serialize()
				if err != nil {
					continue // gobgp has read or made it
				}
				sum.Write(text)
			}
			if retracted {
				continue
			}
			h.sum = sum.Sum64() | 1
		}
		list = append(list, h)
	}
	return list
}
