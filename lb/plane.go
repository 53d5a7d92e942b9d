package lb

import (
	"fmt"

	"anycastle/bpf"

	"github.com/vishvananda/netlink"
)

// answerBy says how the program's own answers, to echo requests and packets that are too big, leave by the uplinks, and
// gives the indexes of these.
func (x *xdp) answerBy(uplinks []string) ([]int, error) {
	var indexes []int
	for _, name := range uplinks {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		flags := uint32(0)
		if link.Type() == "veth" {
			flags = bpf.RealRedirect
		}
		if err := x.lb.SetUplinkFlags(link.Attrs().Index, flags); err != nil {
			return nil, err
		}
		indexes = append(indexes, link.Attrs().Index)
	}
	return indexes, nil
}
