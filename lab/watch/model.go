package watch

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"anycastle/lab/fault"
	"anycastle/lab/topology"
)

// interval is the pause between the end of one look at the lab and the next.
const interval = time.Second

// Options are what Run needs.
type Options struct {
	Topology *topology.Topology
	Collect  func(context.Context) (*State, error)
	Fail     func(context.Context, fault.Fault) (string, error)        // breaks something, and says what it has done
	Heal     func(ctx context.Context, words []string) (string, error) // heals what the words mean
	In       io.Reader
	Out      io.Writer
	Colour   bool
}

// Run shows the lab until the user quits or ctx ends. It takes over the terminal meanwhile.
func Run(ctx context.Context, o Options) error {
	program := tea.NewProgram(newModel(ctx, o), tea.WithContext(ctx), tea.WithAltScreen(), tea.WithInput(o.In), tea.WithOutput(o.Out))
	last, err := program.Run()
	if ctx.Err() != nil {
		return nil // the user has ended it by a signal
	}
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if m, ok := last.(model); ok {
		return m.err
	}
	return nil
}

// WantsColour says whether colours are wanted on a terminal (no-color.org).
func WantsColour(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// IsTerminal says whether a stream is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

// model is the terminal program's state. Its methods are called by one goroutine of the library, which runs the
// commands that they return in others and waits for none: those end with ctx.
type model struct {
	options Options
	ctx     context.Context // of this one run
	view    View
	state   *State
	menu    []choice
	busy    bool // an order is carried out
	err     error
}

func newModel(ctx context.Context, o Options) model {
	return model{options: o, ctx: ctx, view: View{Colour: o.Colour, Width: 80, Height: 24}}
}

// choice is a line of the menu, and what it does.
type choice struct {
	text  string
	fault fault.Fault
}

type (
	collected struct {
		state *State
		err   error
	}
	done struct {
		text string
		err  error
	}
	tick struct{}
)

// Init begins the first look.
func (m model) Init() tea.Cmd { return m.collect }

func (m model) collect() tea.Msg {
	s, err := m.options.Collect(m.ctx)
	return collected{s, err}
}

// Update takes in what has happened.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.view.Width, m.view.Height = msg.Width, msg.Height
	case tick:
		return m, m.collect // one at a time: the next begins when this has come back
	case collected:
		if msg.err != nil { // the lab is gone
			m.err = msg.err
			return m, tea.Quit
		}
		m.state = msg.state
		if m.view.Node == "" && len(m.state.Nodes) > 0 {
			m.view.Node = m.state.Nodes[0].Name
		}
		return m, tea.Tick(interval, func(time.Time) tea.Msg { return tick{} })
	case done:
		m.busy, m.view.Message = false, msg.text
		if msg.err != nil {
			m.view.Message = msg.err.Error()
		}
	case tea.KeyMsg:
		if len(m.menu) > 0 {
			return m.menuKey(msg.String())
		}
		return m.key(msg.String())
	}
	return m, nil
}

// View gives the screen.
func (m model) View() string { return Render(m.state, m.view) }

func (m model) key(key string) (tea.Model, tea.Cmd) {
	m.view.Message = ""
	page := max(1, m.view.Height-around-1)
	switch key {
	case "q", "ctrl+c":
		return m, tea.Quit
	case "?":
		m.view.Help, m.view.Scroll = !m.view.Help, 0
	case "esc":
		m.view.Help = false
	case "tab", "right", "l":
		m.goTo((m.view.Pane + 1) % panes)
	case "shift+tab", "left":
		m.goTo((m.view.Pane + panes - 1) % panes)
	case "1", "2", "3", "4", "5", "6", "7", "8":
		m.goTo(Pane(key[0] - '1'))
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-page)
	case "pgdown", " ":
		m.move(page)
	case "home":
		m.move(-1 << 16)
	case "end":
		m.move(1 << 16)
	case "f", "h", "H":
		return m.order(key)
	}
	return m, nil
}

func (m *model) goTo(p Pane) {
	m.view.Pane, m.view.Scroll, m.view.Help = p, 0, false
}

// move scrolls, or chooses another node on the pane of nodes and keeps it on the screen.
func (m *model) move(by int) {
	height := m.view.Height - around
	if m.state == nil {
		return
	}
	if m.view.Pane != Nodes || m.view.Help {
		lines := len(bodyLines(m.state, m.view))
		m.view.Scroll = clampScroll(m.view.Scroll+by, lines, height)
		return
	}
	at := max(0, min(m.chosen()+by, len(m.state.Nodes)-1))
	m.view.Node = m.state.Nodes[at].Name
	m.view.Scroll = max(0, min(m.view.Scroll, at), at+nodeLine-height+1)
}

// chosen is the place of the chosen node.
func (m *model) chosen() int {
	return max(0, slices.IndexFunc(m.state.Nodes, func(n Node) bool { return n.Name == m.view.Node }))
}

// order opens the menu of faults, or heals. They act on a node, so the pane that shows which comes first.
func (m model) order(key string) (tea.Model, tea.Cmd) {
	switch {
	case m.state == nil || len(m.state.Nodes) == 0:
		return m, nil
	case m.busy:
		m.view.Message = "wait: the last order is still being carried out"
		return m, nil
	case key == "H":
		return m.heal("all")
	case m.view.Pane != Nodes:
		m.goTo(Nodes)
		m.move(0)
		m.view.Message = fmt.Sprintf("choose a node, then %s again", key)
		return m, nil
	case key == "h":
		return m.heal(m.view.Node)
	}
	m.menu = faultsOf(m.options.Topology, m.state.Nodes[m.chosen()])
	m.view.Choice = 0
	m.view.Menu = nil
	for _, c := range m.menu {
		m.view.Menu = append(m.view.Menu, c.text)
	}
	return m, nil
}

func (m model) heal(word string) (tea.Model, tea.Cmd) {
	m.busy, m.view.Message = true, "healing "+word+" …"
	return m, func() tea.Msg {
		text, err := m.options.Heal(m.ctx, []string{word})
		return done{text, err}
	}
}

func (m model) menuKey(key string) (tea.Model, tea.Cmd) {
	last := len(m.menu) - 1
	switch key {
	case "up", "k":
		m.view.Choice = max(0, m.view.Choice-1)
	case "down", "j":
		m.view.Choice = min(last, m.view.Choice+1)
	case "esc", "f":
		m.menu, m.view.Menu = nil, nil
	case "q", "ctrl+c":
		return m, tea.Quit
	case "enter":
		f := m.menu[m.view.Choice].fault
		m.menu, m.view.Menu = nil, nil
		m.busy, m.view.Message = true, f.String()+" …"
		return m, func() tea.Msg {
			text, err := m.options.Fail(m.ctx, f)
			return done{text, err}
		}
	}
	return m, nil
}

// faultsOf lists the ways to break a node, from the smallest.
func faultsOf(t *topology.Topology, n Node) []choice {
	var words [][]string
	for _, r := range n.Roles {
		words = append(words, []string{"role", n.Name, r.Name})
	}
	if len(n.Roles) > 1 {
		for _, r := range n.Roles {
			words = append(words, []string{"hang", n.Name, r.Name})
		}
	}
	words = append(words, []string{"node", n.Name}, []string{"hang", n.Name}, []string{"power", n.Name})
	var beside []string
	for _, l := range t.Links {
		for i, e := range l.Ends() {
			other := l.Ends()[1-i].Node
			if e.Node == n.Name && !slices.Contains(beside, other) {
				beside = append(beside, other)
			}
		}
	}
	const few = 6 // a router has a line to everything; those lines are cut from their other ends
	for _, other := range beside[:min(few, len(beside))] {
		words = append(words, []string{"link", n.Name, other})
	}
	words = append(words, []string{"isp", n.Name})
	if n.Layer != "outside" && n.Site != "" {
		words = append(words, []string{"site", n.Site})
	}
	var out []choice
	for _, w := range words {
		if f, err := fault.Parse(t, w); err == nil {
			out = append(out, choice{text: fmt.Sprintf("%-34s %s", f, f.Kind.Short()), fault: f})
		}
	}
	return out
}
