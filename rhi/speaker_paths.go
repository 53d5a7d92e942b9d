package rhi

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

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
