package report

import (
	"image/color"
	"strings"
)

// The colours of a plot. Good and bad are those of Okabe and Ito that all can tell apart, and their forms differ too.
// Each is another, since a page puts a variable in place of each: see themed.
var ( // constants in all but name
	ink     = color.RGBA{0x22, 0x26, 0x2b, 0xff}
	muted   = color.RGBA{0x66, 0x6e, 0x79, 0xff}
	faint   = color.RGBA{0xe2, 0xe5, 0xe9, 0xff}
	paper   = color.RGBA{0xfe, 0xfe, 0xfe, 0xff}
	band    = color.RGBA{0xf3, 0xf5, 0xf7, 0xff}
	good    = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	soft    = color.RGBA{0xb5, 0xd6, 0xeb, 0xff}
	bad     = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	shade   = color.RGBA{0xfb, 0xe0, 0xcd, 0xff}
	spoken  = color.RGBA{0x7a, 0x55, 0x9b, 0xff}
	badText = color.RGBA{0xa8, 0x47, 0x00, 0xff}
)

// themed puts the page's variables in place of the colours, so that a plot within a page follows light and dark.
func themed(svg string) string {
	names := map[color.RGBA]string{
		ink: "ink", muted: "muted", faint: "faint", paper: "paper", band: "band", good: "good", soft: "soft", bad: "bad",
		shade: "shade", spoken: "spoken", badText: "bad-text",
	}
	var pairs []string
	for c, name := range names {
		pairs = append(pairs, ":"+hex(c), ":var(--"+name+")")
	}
	return strings.NewReplacer(pairs...).Replace(svg)
}

// hex writes a colour as the plots have it.
func hex(c color.RGBA) string {
	const digits = "0123456789ABCDEF"
	out := []byte{'#'}
	for _, b := range []byte{c.R, c.G, c.B} {
		out = append(out, digits[b>>4], digits[b&15])
	}
	return string(out)
}
