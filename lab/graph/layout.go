package graph

import (
	"cmp"
	"slices"

	"anycastle/lab/topology"
)

// Sizes, in the SVG's units.
const (
	nodeWidth, nodeHeight = 96, 36
	gapX                  = 14 // between two nodes of a row
	gapY                  = 44 // between two rows: room for the rails
	inset                 = 14 // from a box to what is in it
	railGap               = 8  // between two rails
	titleHeight           = 26
	siteGap               = 70
	labelWidth            = 12 // right of the nodes, for the names of the layers
	margin                = 20
	rowLength             = 4 // nodes of one row; a longer one goes on in the next
	hubLinks              = 4 // lines into its site from which on any node of the network counts as its router
)

// box is a rectangle of the picture.
type box struct{ x, y, w, h int }

func (b box) right() int  { return b.x + b.w }
func (b box) bottom() int { return b.y + b.h }
func (b box) middle() int { return b.x + b.w/2 }

// picture is a laid out topology.
type picture struct {
	topo   *topology.Topology
	places map[string]Place
	nodes  map[string]box
	hub    map[string]int // of a site's routers: which rail they have
	sites  []siteBox
	pods   []labelled
	bands  []labelled // one for each layer of a site
	w, h   int
}

type labelled struct {
	box
	label string
}

// siteBox is a site, or what is outside.
type siteBox struct {
	labelled
	hubs []string
	rows []int // y of the top of each row below the routers
}

// column is what stands in one of the parts that a site's layer has side by side: a pod.
type column struct {
	pod  string
	rows map[Layer][][]string
}

// layout finds a place for every node. Nothing in it depends on anything but the topology.
func layout(t *topology.Topology) *picture {
	p := &picture{topo: t, places: map[string]Place{}, nodes: map[string]box{}, hub: map[string]int{}}
	bySite := map[string][]string{}
	var outside, names []string
	for _, n := range t.Nodes {
		place := PlaceOf(n)
		p.places[n.Name] = place
		if place.Layer == Outside {
			outside = append(outside, n.Name)
			continue
		}
		if bySite[place.Site] == nil {
			names = append(names, place.Site)
		}
		bySite[place.Site] = append(bySite[place.Site], n.Name)
	}
	slices.Sort(names)
	top := margin
	if len(outside) > 0 {
		top += p.outsideHeight(outside) + siteGap
	}
	x, bottom := margin, top
	for _, name := range names {
		s := p.site(name, bySite[name], x, top)
		p.sites = append(p.sites, s)
		x = s.right() + siteGap
		bottom = max(bottom, s.bottom())
	}
	p.w = max(x-siteGap, margin+6*(nodeWidth+gapX)) + margin
	if len(outside) > 0 {
		p.outside(outside)
	}
	p.h = bottom + margin
	return p
}

// outsideRows puts ISPs at the bottom, next to the sites, and all others above.
func (p *picture) outsideRows(names []string) [][]string {
	var upper, isps []string
	for _, n := range names {
		if p.places[n].Role == "isp" {
			isps = append(isps, n)
		} else {
			upper = append(upper, n)
		}
	}
	var rows [][]string
	for _, row := range [][]string{upper, isps} {
		if len(row) > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

func (p *picture) outsideHeight(names []string) int {
	n := len(p.outsideRows(names))
	return titleHeight + n*nodeHeight + (n-1)*gapY + inset
}

// outside spreads what is outside over the whole width.
func (p *picture) outside(names []string) {
	b := box{margin, margin, p.w - 2*margin, p.outsideHeight(names)}
	p.sites = append([]siteBox{{labelled: labelled{b, string(Outside)}}}, p.sites...)
	y := b.y + titleHeight
	for _, row := range p.outsideRows(names) {
		for i, n := range row {
			middle := b.x + b.w*(2*i+1)/(2*len(row))
			p.nodes[n] = box{middle - nodeWidth/2, y, nodeWidth, nodeHeight}
		}
		y += nodeHeight + gapY
	}
}

// isHub says whether a node has lines to much of its site.
func (p *picture) isHub(name string) bool {
	is := p.places[name]
	if is.Layer != Network {
		return false
	}
	if is.Role == "core" {
		return true
	}
	inside := 0
	for _, l := range p.topo.Links {
		for i, e := range l.Ends() {
			if e.Node == name && p.places[l.Ends()[1-i].Node].Site == is.Site {
				inside++
			}
		}
	}
	return inside >= hubLinks
}

// site lays out one site with its top left corner at x, y.
func (p *picture) site(name string, nodes []string, x, y int) siteBox {
	s := siteBox{labelled: labelled{label: name}}
	common := column{rows: map[Layer][][]string{}}
	pods := map[string]*column{}
	var order []string
	for _, n := range nodes {
		is := p.places[n]
		switch {
		case p.isHub(n):
			p.hub[n] = len(s.hubs)
			s.hubs = append(s.hubs, n)
			continue
		case is.Pod == "":
			common.add(is.Layer, n)
			continue
		case pods[is.Pod] == nil:
			pods[is.Pod] = &column{pod: is.Pod, rows: map[Layer][][]string{}}
			order = append(order, is.Pod)
		}
		pods[is.Pod].add(is.Layer, n)
	}
	slices.SortFunc(order, func(a, b string) int { return cmp.Or(len(a)-len(b), cmp.Compare(a, b)) })
	var columns []*column
	for _, pod := range order {
		columns = append(columns, pods[pod])
	}
	left := x + inset + railGap*(len(s.hubs)+1)
	width := p.rowsWidth(s.hubs, common, columns)
	top := y + titleHeight + inset
	p.putRow(s.hubs, left, top, width)
	if len(s.hubs) > 0 {
		top += nodeHeight + gapY
	}
	bottom := p.layers(&s, common, columns, left, top, width)
	s.box = box{x, y, left + width + inset + labelWidth - x, bottom + inset - y}
	for i := range p.bands {
		if b := &p.bands[i]; b.w == 0 {
			b.x, b.w = x+1, s.w-2
		}
	}
	return s
}

// add puts a node at the end of a layer's rows. Rows break at whole roles where they can: mx1 mx2, not mx1 alone.
func (c *column) add(layer Layer, node string) {
	rows := c.rows[layer]
	if n := len(rows); n > 0 && len(rows[n-1]) < rowLength {
		rows[n-1] = append(rows[n-1], node)
	} else {
		rows = append(rows, []string{node})
	}
	c.rows[layer] = rows
}

func rowWidth(n int) int { return max(0, n*(nodeWidth+gapX)-gapX) }

func (c *column) width() int {
	w := 0
	for _, rows := range c.rows {
		for _, r := range rows {
			w = max(w, rowWidth(len(r)))
		}
	}
	return w
}

// podsWidth is that of the pods' boxes side by side.
func podsWidth(columns []*column) int {
	w := 0
	for _, c := range columns {
		w += c.width() + 2*inset + gapX
	}
	return max(0, w-gapX)
}

func (p *picture) rowsWidth(hubs []string, common column, columns []*column) int {
	return max(rowWidth(len(hubs)), common.width(), podsWidth(columns), rowWidth(2))
}

// putRow puts nodes side by side in the middle of a width.
func (p *picture) putRow(names []string, left, y, width int) {
	x := left + (width-rowWidth(len(names)))/2
	for _, n := range names {
		p.nodes[n] = box{x, y, nodeWidth, nodeHeight}
		x += nodeWidth + gapX
	}
}

// layers puts the layers one below the other, in each what belongs to no pod above the pods. It gives the y below all.
func (p *picture) layers(s *siteBox, common column, columns []*column, left, top, width int) int {
	x := left + (width-podsWidth(columns))/2
	podX := make([]int, len(columns))
	for i, c := range columns {
		podX[i] = x
		x += c.width() + 2*inset + gapX
	}
	y, podTop, podBottom := top, 0, 0
	step := func() { s.rows = append(s.rows, y); y += nodeHeight + gapY }
	for _, layer := range []Layer{Network, Front, Back} {
		start := y
		mine := common.rows[layer]
		if layer == Back { // pods are whole boxes: what a site has at its back end comes below them
			mine = nil
		}
		for _, row := range mine {
			p.putRow(row, left, y, width)
			step()
		}
		deepest := 0
		for _, c := range columns {
			deepest = max(deepest, len(c.rows[layer]))
		}
		for r := range deepest {
			if podTop == 0 {
				podTop = y
			}
			for i, c := range columns {
				if rows := c.rows[layer]; r < len(rows) {
					p.putRow(rows[r], podX[i]+inset, y, c.width())
				}
			}
			step()
			podBottom = y - gapY
		}
		if layer == Back {
			for _, row := range common.rows[layer] {
				p.putRow(row, left, y, width)
				step()
			}
		}
		if y > start {
			p.bands = append(p.bands, labelled{box{y: start - gapY + inset, h: y - start}, bandLabel(layer)})
		}
	}
	for i, c := range columns {
		p.pods = append(p.pods, labelled{
			box{podX[i], podTop - gapY/2 - 13, c.width() + 2*inset, podBottom - podTop + gapY/2 + 13 + inset - 4}, "pod " + c.pod,
		})
	}
	return y - gapY + inset/2
}

func bandLabel(l Layer) string {
	return map[Layer]string{Network: "network", Front: "front end", Back: "back end"}[l]
}
