package graph

import (
	"cmp"
	"regexp"
	"strings"

	"anycastle/lab/topology"
)

// Place is where a node stands in the picture, and what it is.
type Place struct {
	Site  string // the group that the topology file gives it
	Layer Layer
	Pod   string // of a node that belongs to a pod: "1"
	Role  string // "lb", "mx", …
	Short string // its name without site and pod
}

// Layer is one of the segments of a site, or what is outside all sites.
type Layer string

// The layers, from the top of the picture to its bottom.
const (
	Outside Layer = "outside" // ISPs, clients, resolvers, the witness
	Network Layer = "network" // routers, balancers and site selectors
	Front   Layer = "front"   // what a VIP leads to
	Back    Layer = "back"    // what only the front may reach
)

// The labels that say a node's place. Without them its name and group do.
const (
	labelLayer = "anycastle-layer"
	labelPod   = "anycastle-pod"
	labelRole  = "anycastle-role"
)

var podName = regexp.MustCompile(`^pod([0-9]+)$`)

// PlaceOf tells a node's place by its labels, and what these do not say by its group and name: SITE-ROLEn, or
// SITE-podN-ROLEn.
func PlaceOf(n topology.Node) Place {
	p := Place{Site: n.Group, Short: strings.TrimPrefix(n.Name, n.Group+"-")}
	if head, tail, ok := strings.Cut(p.Short, "-"); ok {
		if m := podName.FindStringSubmatch(head); m != nil {
			p.Pod, p.Short = m[1], tail
		}
	}
	p.Pod = cmp.Or(n.Labels[labelPod], p.Pod)
	p.Role = cmp.Or(n.Labels[labelRole], roleOf(p.Short))
	switch layer := Layer(n.Labels[labelLayer]); layer {
	case Outside, Network, Front, Back:
		p.Layer = layer
	default:
		p.Layer = layerOf(p)
	}
	return p
}

func roleOf(name string) string {
	if strings.HasPrefix(name, "isp") {
		return "isp"
	}
	return strings.TrimRight(name, "0123456789")
}

func layerOf(p Place) Layer {
	switch p.Role {
	case "isp", "client", "resolver", "witness":
		return Outside
	case "mx", "submission", "imap", "real", "web":
		return Front
	case "store", "standby", "monitor":
		return Back
	}
	if p.Site == string(Outside) {
		return Outside
	}
	return Network
}
