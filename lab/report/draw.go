package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strconv"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The measures of a plot, in points.
const (
	plotWidth  = 980
	leftMargin = 128 // names of the lanes
	rightSpace = 14
	titleRow   = 20
	flagRow    = 12.5
	flagRows   = 13
	headRow    = 12 // over a lane: the length of its outage
	laneRow    = 17
	boxRow     = 7 // a mailbox's
	laneGap    = 5
	axisRows   = 42
	smallText  = 8.5
	plainText  = 9.5
	otherFonts = 1.13 // how much wider than ours a text may be where our font is not
)

// svg draws the timeline.
func (t timeline) svg() (string, error) {
	w := &writer{timeline: t}
	w.layOut()
	p := plot.New()
	p.BackgroundColor = paper
	p.HideY()
	p.Y.Min, p.Y.Max = 0, w.height
	t.axis(p)
	p.Add(w)
	canvas := vgsvg.New(plotWidth, vg.Length(w.height+axisRows))
	p.Draw(draw.Crop(draw.New(canvas), leftMargin, -rightSpace, 0, 0))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", fmt.Errorf("plot: %w", err)
	}
	return tidy(out.String()), nil
}

// axis is that of time.
func (t timeline) axis(p *plot.Plot) {
	p.X.Min, p.X.Max = t.scale.from, t.scale.to
	p.X.Label.Text = "seconds from the fault"
	if t.later > 0 {
		p.X.Label.Text += fmt.Sprintf("  (watched until %s s, with no failure)", strconv.FormatFloat(t.later, 'f', 1, 64))
	}
	p.X.Label.TextStyle = style(plainText, ink)
	p.X.Label.TextStyle.XAlign, p.X.Label.TextStyle.YAlign = text.XCenter, text.YBottom
	p.X.Tick.Marker = plot.ConstantTicks(ticks(t.scale.from, t.scale.to))
	p.X.Tick.Label = style(smallText, ink)
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = text.XCenter, text.YTop
	p.X.Color, p.X.Tick.Color = muted, muted
	p.X.Padding = 0
}

// tidy leaves out of a plot what says nothing, and names fonts that most machines have.
func tidy(svg string) string {
	return strings.NewReplacer(
		"font-family:Liberation Sans;font-variant:normal;font-weight:normal;font-style:normal", "font-family:Liberation Sans,Arial,Helvetica,sans-serif",
		"font-family:Liberation Sans;font-variant:normal;font-weight:bold;font-style:normal", "font-family:Liberation Sans,Arial,Helvetica,sans-serif;font-weight:bold",
	).Replace(svg)
}

// style is that of a text, from its left end.
func style(size font.Length, c color.Color) draw.TextStyle {
	return draw.TextStyle{
		Color: c, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size},
		XAlign: text.XLeft, YAlign: text.YCenter, Handler: plot.DefaultTextHandler,
	}
}

// ticks are at round seconds, 0 among them.
func ticks(from, to float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10((to-from)/8)))
	for _, times := range []float64{1, 2, 5, 10} {
		if (to-from)/(step*times) <= 16 {
			step *= times
			break
		}
	}
	digits := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	var out []plot.Tick
	for i := math.Ceil(from / step); i*step <= to; i++ {
		out = append(out, plot.Tick{Value: i * step, Label: strconv.FormatFloat(i*step+0, 'f', digits, 64)})
	}
	return out
}

// writer draws a timeline into the area of a plot.
type writer struct {
	timeline
	placed []placed
	height float64
	tops   []float64 // of the lanes, from below

	c    draw.Canvas
	x, y func(float64) vg.Length
}

// layOut finds how much room everything needs.
func (w *writer) layOut() {
	width := plotWidth - leftMargin - rightSpace
	perSecond := float64(width) / (w.scale.to - w.scale.from)
	w.placed = place(w.flags, func(at float64) float64 { return (at - w.scale.from) * perSecond },
		func(f flag) float64 { return float64(flagStyle(f).Width(f.text))*otherFonts + 6 }, float64(width), flagRows)
	rows := 0
	for _, p := range w.placed {
		rows = max(rows, p.row+1)
	}
	w.height = 4
	for i := len(w.lanes) - 1; i >= 0; i-- {
		w.height += laneHeight(w.lanes[i])
		w.tops = append([]float64{w.height}, w.tops...)
		w.height += laneGap
	}
	w.height += 3 + float64(rows)*flagRow + titleRow
}

func laneHeight(l lane) float64 {
	if l.form == mails {
		return headRow + boxRow*float64(max(len(l.rows), 2))
	}
	return headRow + laneRow
}

// Plot implements plot.Plotter.
func (w *writer) Plot(c draw.Canvas, p *plot.Plot) {
	w.c = c
	w.x, w.y = p.Transforms(&c)
	w.grid(p)
	for i, l := range w.lanes {
		w.lane(l, w.tops[i])
	}
	w.marks()
	w.head()
}

func (w *writer) grid(p *plot.Plot) {
	top := w.flagsFrom()
	for _, t := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
		w.line(faint, 0.6, t.Value, 0, t.Value, top)
	}
}

// flagsFrom is the height from which on the texts of the flags stand.
func (w *writer) flagsFrom() float64 {
	if len(w.tops) == 0 {
		return 4
	}
	return w.tops[0] + 4
}

func (w *writer) lane(l lane, top float64) {
	bottom, under := top-laneHeight(l), top-headRow
	name := style(plainText, ink)
	name.XAlign = text.XRight
	w.c.FillText(name, vg.Point{X: w.c.Min.X - 8, Y: w.y((bottom + under) / 2)}, l.name)
	w.box(band, w.scale.from, bottom, w.scale.to, under)
	if l.span != nil && l.span.to > l.span.from {
		w.box(shade, l.span.from, bottom, l.span.to, top)
	}
	switch l.form {
	case attempts:
		w.bars(good, l.rows[0].good, bottom+1, bottom+0.62*laneRow)
		w.bars(bad, l.rows[0].bad, bottom+1, under)
	case mails:
		w.mails(l.rows, under)
	case sessions:
		w.sessions(l, bottom+1, under-3)
		w.bars(bad, l.rows[0].bad, bottom+1, under)
	}
	if l.span != nil {
		w.measure(*l.span, top-headRow/2)
	}
}

// mails draws a row for each mailbox: thin while a mail is under way, and a tick at the acknowledgement.
func (w *writer) mails(rows []row, under float64) {
	for i, r := range rows {
		low := under - boxRow*float64(i+1)
		w.bars(soft, r.wait, low+2.2, low+boxRow-2.8)
		w.bars(bad, r.bad, low+1.4, low+boxRow-2)
		w.bars(good, r.good, low+0.8, low+boxRow-1)
	}
}

// sessions draws how many are open.
func (w *writer) sessions(l lane, low, high float64) {
	if l.most == 0 || len(l.steps) == 0 {
		return
	}
	at := func(open int) float64 { return low + (high-low)*float64(open)/float64(l.most) }
	var area vg.Path
	area.Move(w.point(l.steps[0].at, low))
	level := at(l.steps[0].open)
	var edge vg.Path
	edge.Move(w.point(l.steps[0].at, level))
	for _, s := range l.steps {
		x := min(max(s.at, w.scale.from), w.scale.to)
		area.Line(w.point(x, level))
		edge.Line(w.point(x, level))
		level = at(s.open)
		area.Line(w.point(x, level))
		edge.Line(w.point(x, level))
	}
	area.Line(w.point(w.scale.to, level))
	edge.Line(w.point(w.scale.to, level))
	area.Line(w.point(w.scale.to, low))
	area.Close()
	w.c.SetColor(soft)
	w.c.Fill(area)
	w.stroke(good, 1.1, edge)
}

// measure writes the length of a span over it.
func (w *writer) measure(s span, at float64) {
	st := style(smallText, badText)
	st.Font.Weight = xfont.WeightBold
	x := min(w.x(max(s.from, w.scale.from))+3, w.c.Max.X-st.Width(s.text)-2)
	w.c.FillText(st, vg.Point{X: x, Y: w.y(at)}, s.text)
}

// marks draws the flags: lines through all lanes, and their texts above.
func (w *writer) marks() {
	base := w.flagsFrom()
	for _, p := range w.placed {
		c, width := color.Color(spoken), vg.Length(0.7)
		if p.done {
			c, width = ink, 1.1
		}
		top := base
		if p.row >= 0 {
			top += float64(p.row)*flagRow + 2
		}
		var line vg.Path
		line.Move(w.point(p.at, 0))
		line.Line(w.point(p.at, top))
		w.c.SetLineDash(dashes(p.done), 0)
		w.stroke(c, width, line)
		w.c.SetLineDash(nil, 0)
		w.flagText(p, base+(float64(p.row)+0.5)*flagRow)
	}
}

func (w *writer) flagText(p placed, y float64) {
	if p.row < 0 {
		return
	}
	st, x := flagStyle(p.flag), p.left+3
	if p.flipped {
		st.XAlign, x = text.XRight, p.right-3
	}
	w.c.FillText(st, vg.Point{X: w.c.Min.X + vg.Length(x), Y: w.y(y)}, p.text)
}

func dashes(done bool) []vg.Length {
	if done {
		return nil
	}
	return []vg.Length{2.5, 1.5}
}

func flagStyle(f flag) draw.TextStyle {
	st := style(smallText, spoken)
	if f.done {
		st.Color, st.Font.Weight = ink, xfont.WeightBold
	}
	return st
}

// head writes the title and what the colours mean.
func (w *writer) head() {
	y := w.height - titleRow/2
	st := style(11, ink)
	st.Font.Weight = xfont.WeightBold
	w.c.FillText(st, vg.Point{X: w.c.Min.X - leftMargin + 8, Y: w.y(y)}, shorten(w.title, 80))
	st = style(smallText, ink)
	x := w.c.Max.X
	for _, k := range []struct {
		name string
		c    color.Color
		tall float64
	}{{"a node says", spoken, 10}, {"done to the lab", ink, 10}, {"outage", shade, 10}, {"failed", bad, 10}, {"good", good, 6}} {
		x -= st.Width(k.name)
		w.c.FillText(st, vg.Point{X: x, Y: w.y(y)}, k.name)
		x -= 5
		thick := vg.Length(9)
		if k.c == color.Color(spoken) || k.c == color.Color(ink) {
			thick = 1.5
		}
		w.fill(k.c, x-thick, w.y(y-5), x, w.y(y-5+k.tall))
		x -= thick + 15
	}
}

// bars fills stretches of a row in one go; none is too thin to be seen.
func (w *writer) bars(c color.Color, list []bar, low, high float64) {
	var path vg.Path
	for _, b := range list {
		x, end := w.x(b.from), w.x(b.to)
		end = min(max(end, x+1.2), w.c.Max.X)
		x = min(x, end)
		y, top := w.y(low), w.y(high)
		path.Move(vg.Point{X: x, Y: y})
		path.Line(vg.Point{X: end, Y: y})
		path.Line(vg.Point{X: end, Y: top})
		path.Line(vg.Point{X: x, Y: top})
		path.Close()
	}
	if len(path) > 0 {
		w.c.SetColor(c)
		w.c.Fill(path)
	}
}

func (w *writer) box(c color.Color, from, low, to, high float64) {
	w.fill(c, w.x(max(from, w.scale.from)), w.y(low), w.x(min(to, w.scale.to)), w.y(high))
}

func (w *writer) fill(c color.Color, x, y, right, top vg.Length) {
	w.c.SetColor(c)
	w.c.Fill(vg.Rectangle{Min: vg.Point{X: x, Y: y}, Max: vg.Point{X: right, Y: top}}.Path())
}

func (w *writer) point(x, y float64) vg.Point { return vg.Point{X: w.x(x), Y: w.y(y)} }

func (w *writer) line(c color.Color, width vg.Length, x, y, toX, toY float64) {
	var p vg.Path
	p.Move(w.point(x, y))
	p.Line(w.point(toX, toY))
	w.stroke(c, width, p)
}

func (w *writer) stroke(c color.Color, width vg.Length, p vg.Path) {
	w.c.SetColor(c)
	w.c.SetLineWidth(vg.Length(width))
	w.c.Stroke(p)
}
