package graph

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"anycastle/lab/topology"
)

// Condition is what a running lab adds to the picture. The zero Condition is a topology that does not run.
type Condition struct {
	Nodes map[string]string // of nodes that are not well: a word or two, such as "no power"
	Works map[string]bool   // of these, those that work in spite of it
	Links map[string]string // of lines that are not up, by LinkName: "cut" or "down"
	Note  string            // beside the title
}

// LinkName names a line in a Condition.
func LinkName(l topology.Link) string { return l.A.String() + " " + l.B.String() }

const style = `
text { font-family: "DejaVu Sans", Verdana, Helvetica, sans-serif; font-size: 12px; fill: #1f2933; text-anchor: middle }
.title { font-size: 14px; font-weight: bold; text-anchor: start }
.small { font-size: 10px; fill: #52606d }
.band text { font-size: 10px; fill: #7b8794 }
.site { fill: #f8fafc; stroke: #9fb3c8; stroke-width: 1.5 }
.band rect { fill: #eef2f7 } .band.back rect { fill: #e6ebf2 } .band.network rect { fill: #f5f8fb }
.pod rect { fill: none; stroke: #829ab1; stroke-dasharray: 5 3 }
.pod text { font-size: 10px; fill: #486581; text-anchor: start }
.node rect { fill: #ffffff; stroke: #486581; rx: 5 }
.core rect, .isp rect { fill: #dceefb } .lb rect { fill: #fff3c4 } .gss rect { fill: #e8d9fb }
.mx rect, .imap rect, .submission rect { fill: #e3f9e5 } .store rect, .standby rect, .witness rect { fill: #fde7d3 }
.client rect, .resolver rect, .monitor rect { fill: #e4e7eb }
.ill rect { fill: #ffd0d0; stroke: #cf1124; stroke-width: 2 } .ill text { fill: #8b0a1a }
.works rect { fill: #fff3c4; stroke: #cb6e17 } .works text { fill: #8d2b0b }
.line { fill: none; stroke: #829ab1; stroke-width: 1.2 }
.rail0 { stroke: #2186c4 } .rail1 { stroke: #0c8a6d } .rail2 { stroke: #8a5cc4 } .rail3 { stroke: #b7791f }
.between { stroke: #334e68; stroke-width: 2 }
.cut { stroke: #cf1124; stroke-width: 2.2; stroke-dasharray: 6 4 } .down { stroke: #9aa5b1; stroke-width: 2; stroke-dasharray: 1 4 }
`

// drawing writes one picture.
type drawing struct {
	*picture
	is  Condition
	out bytes.Buffer
}

// Draw gives the SVG of a topology.
func Draw(t *topology.Topology, is Condition) []byte {
	d := &drawing{picture: layout(t), is: is}
	const head = 30
	d.printf(`<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d">`+"\n", d.w, d.h+head)
	d.printf("<style>%s</style>\n", style)
	d.printf(`<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", d.w, d.h+head)
	title := t.Name
	if is.Note != "" {
		title += ": " + is.Note
	}
	d.printf(`<text class="title" x="%d" y="28">%s</text>`+"\n", margin, escape(title))
	d.printf(`<g transform="translate(0 %d)">`+"\n", head)
	d.boxes()
	d.rails()
	d.lines()
	for _, n := range t.Nodes {
		d.node(n.Name)
	}
	d.printf("</g>\n</svg>\n")
	return d.out.Bytes()
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(&d.out, format, args...) }

func escape(s string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}

func (d *drawing) rect(b box, class string) {
	d.printf(`<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="6"/>`, class, b.x, b.y, b.w, b.h)
}

// boxes draws what lies behind the lines: sites, layers, pods.
func (d *drawing) boxes() {
	for _, s := range d.sites {
		d.rect(s.box, "site")
		d.printf("\n")
		if s.label != "" {
			d.printf(`<text class="title" x="%d" y="%d">%s</text>`+"\n", s.x+10, s.y+18, escape(s.label))
		}
	}
	for _, b := range d.bands {
		class := map[string]string{"network": "network", "back end": "back"}[b.label]
		d.printf(`<g class="band %s">`, class)
		d.rect(b.box, "layer")
		d.printf(`<text transform="translate(%d %d) rotate(90)">%s</text></g>`+"\n", b.right()-13, b.y+b.h/2, b.label)
	}
	for _, b := range d.pods {
		d.printf(`<g class="pod">`)
		d.rect(b.box, "podbox")
		d.printf(`<text x="%d" y="%d">%s</text></g>`+"\n", b.x+6, b.y+10, escape(b.label))
	}
}

func (d *drawing) node(name string) {
	b, is := d.nodes[name], d.places[name]
	class := "node " + is.Role
	ill := d.is.Nodes[name]
	if ill != "" {
		class += " ill"
		if d.is.Works[name] {
			class += " works"
		}
	}
	d.printf(`<g class="%s" id="%s"><title>%s</title>`, escape(class), escape(name), escape(name))
	d.rect(b, "box")
	second := ill
	if second == "" && !strings.HasPrefix(is.Short, is.Role) {
		second = is.Role
	}
	y := b.y + b.h/2 + 4
	if second != "" {
		y -= 6
		d.printf(`<text class="small" x="%d" y="%d">%s</text>`, b.middle(), b.bottom()-6, escape(second))
	}
	d.printf(`<text x="%d" y="%d">%s</text></g>`+"\n", b.middle(), y, escape(shorten(is.Short)))
}

// shorten keeps a name inside its box.
func shorten(s string) string {
	const most = 13
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// railed says whether a line runs along a rail, and from which router to which node.
func (d *drawing) railed(l topology.Link) (hub, node string, ok bool) {
	for i, e := range l.Ends() {
		other := l.Ends()[1-i].Node
		_, isHub := d.hub[e.Node]
		_, both := d.hub[other]
		if isHub && !both && d.places[e.Node].Site == d.places[other].Site && d.places[other].Layer != Outside {
			return e.Node, other, true
		}
	}
	return "", "", false
}

// dropX is where a router's line comes down on a node.
func (d *drawing) dropX(hub, node string, hubs int) int {
	b := d.nodes[node]
	return b.x + b.w*(d.hub[hub]+1)/(hubs+1)
}

// railY is the height of a router's rail above a row.
func (d *drawing) railY(hub string, row int) int { return row - inset - railGap*d.hub[hub] + 4 }

// rails draws for each router a trunk down the left of its site and a rail above each row, as far as it has lines there, and
// each line as a drop from the rail to its node.
func (d *drawing) rails() {
	for _, s := range d.sites {
		for _, hub := range s.hubs {
			d.railsOf(s, hub)
		}
	}
}

func (d *drawing) railsOf(s siteBox, hub string) {
	class := fmt.Sprintf("line rail%d", d.hub[hub]%4)
	trunk := s.x + inset + railGap*d.hub[hub]
	h := d.nodes[hub]
	start := h.bottom() + 8 + railGap*d.hub[hub]
	lowest := start
	far := map[int]int{} // of a row: how far to the right its rail goes
	for _, l := range d.topo.Links {
		if from, node, ok := d.railed(l); ok && from == hub {
			row := d.nodes[node].y
			far[row] = max(far[row], d.dropX(hub, node, len(s.hubs)))
			lowest = max(lowest, d.railY(hub, row))
		}
	}
	if len(far) == 0 {
		return
	}
	d.printf(`<path class="%s" d="M%d %dV%dH%dV%d"/>`+"\n", class, h.middle(), h.bottom(), start, trunk, lowest)
	for _, row := range s.rows {
		if far[row] > 0 {
			d.printf(`<path class="%s" d="M%d %dH%d"/>`+"\n", class, trunk, d.railY(hub, row), far[row])
		}
	}
	for _, l := range d.topo.Links {
		if from, node, ok := d.railed(l); ok && from == hub {
			x := d.dropX(hub, node, len(s.hubs))
			d.printf(`<path class="%s" d="M%d %dV%d"><title>%s</title></path>`+"\n", d.with(class, l), x, d.railY(hub, d.nodes[node].y),
				d.nodes[node].y, escape(l.A.String()+" – "+l.B.String()))
		}
	}
}

// with adds the state of a line to its class.
func (d *drawing) with(class string, l topology.Link) string {
	switch d.is.Links[LinkName(l)] {
	case "":
		return class
	case "cut":
		return class + " cut"
	}
	return class + " down"
}

// lines draws all lines that run along no rail. Those within one row that have a node between their ends go around it, above.
func (d *drawing) lines() {
	arcs := map[int]int{} // of a row: how many go above it
	for _, l := range d.topo.Links {
		if _, _, ok := d.railed(l); ok {
			continue
		}
		a, b := d.nodes[l.A.Node], d.nodes[l.B.Node]
		if a.y > b.y || a.y == b.y && a.x > b.x {
			a, b = b, a
		}
		class := "line"
		if d.places[l.A.Node].Site != d.places[l.B.Node].Site {
			class += " between"
		}
		var path string
		switch {
		case a.y != b.y:
			path = fmt.Sprintf("M%d %dL%d %d", a.middle(), a.bottom(), b.middle(), b.y)
		case d.free(a, b):
			path = fmt.Sprintf("M%d %dH%d", a.right(), a.y+a.h/2, b.x)
		default:
			y := a.y - 10 - 7*(arcs[a.y]%4)
			arcs[a.y]++
			path = fmt.Sprintf("M%d %dV%dH%dV%d", a.middle()+20, a.y, y, b.middle()-20, b.y)
		}
		d.printf(`<path class="%s" d="%s"><title>%s</title></path>`+"\n", d.with(class, l), path, escape(l.A.String()+" – "+l.B.String()))
	}
}

// free says whether nothing stands between two nodes of a row.
func (d *drawing) free(a, b box) bool {
	return !slices.ContainsFunc(d.topo.Nodes, func(n topology.Node) bool {
		x := d.nodes[n.Name]
		return x.y == a.y && x.x >= a.right() && x.right() <= b.x
	})
}
