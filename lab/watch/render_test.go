package watch

import (
	"flag"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestRenderGolden(t *testing.T) {
	s := testState(t)
	for _, tc := range []struct {
		file string
		view View
	}{
		{"overview-80x24.txt", View{Width: 80, Height: 24}},
		{"overview-140x50.txt", View{Width: 140, Height: 50}},
		{"nodes-80x24.txt", View{Width: 80, Height: 24, Pane: Nodes, Node: "east-mx1"}},
		{"reals-140x50.txt", View{Width: 140, Height: 50, Pane: Reals}},
		{"luns-140x50.txt", View{Width: 140, Height: 50, Pane: LUNs}},
		{"menu-80x24.txt", View{Width: 80, Height: 24, Pane: Nodes, Node: "east-mx1", Menu: []string{"node east-mx1", "hang east-mx1"}, Choice: 1}},
		{"help-80x24.txt", View{Width: 80, Height: 24, Help: true}},
	} {
		t.Run(tc.file, func(t *testing.T) { golden(t, tc.file, Render(s, tc.view)+"\n") })
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestRenderFitsEverySize(t *testing.T) {
	s := testState(t)
	s.Nodes[3].Why = "日本語 and \x1b[2J and \n a very long reason that goes on and on: " + strings.Repeat("because ", 30)
	s.Nodes[3].Health = Bad
	s.Events[len(s.Events)-1].Text = "wide 漢字 é\u0301 \u200b\u202e end"
	sizes := [][2]int{{6, 6}, {20, 10}, {40, 10}, {79, 24}, {80, 24}, {119, 30}, {120, 30}, {140, 50}, {300, 100}}
	for _, size := range sizes {
		for p := range panes {
			v := View{Width: size[0], Height: size[1], Pane: p, Scroll: 3, Node: "east-mx1", Menu: []string{strings.Repeat("long ", 40)}}
			bare := Render(s, v)
			v.Colour = true
			coloured := Render(s, v)
			if got := escapes.ReplaceAllString(coloured, ""); got != bare {
				t.Fatalf("%v %s: with colours it is another text:\n%s\nwithout:\n%s", size, p, got, bare)
			}
			lines := strings.Split(bare, "\n")
			if len(lines) != size[1] {
				t.Errorf("%v %s: %d lines", size, p, len(lines))
			}
			for _, l := range lines {
				if n := utf8.RuneCountInString(l); n > size[0] {
					t.Errorf("%v %s: a line of %d columns: %s", size, p, n, l)
				}
				if strings.ContainsAny(l, "\x1b\u202e\u200b漢") {
					t.Errorf("%v %s: what would upset a terminal: %q", size, p, l)
				}
			}
		}
	}
}

func TestRenderScrollsToTheEndAndNoFurther(t *testing.T) {
	s := testState(t)
	text := Render(s, View{Width: 80, Height: 24, Pane: Events, Scroll: 1 << 20})
	if !strings.Contains(text, s.Events[0].At.Format("15:04:05.000")) {
		t.Errorf("the oldest event is not on the screen:\n%s", text)
	}
}

func TestRenderBeforeTheFirstLook(t *testing.T) {
	if text := Render(nil, View{Width: 80, Height: 24}); !strings.Contains(text, "asking every node") {
		t.Errorf("got:\n%s", text)
	}
}
