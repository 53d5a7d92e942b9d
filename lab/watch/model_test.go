package watch

import (
	"context"
	"errors"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"

	"anycastle/lab/fault"
)

// press makes a key as the library tells it.
func press(key string) tea.KeyMsg {
	types := map[string]tea.KeyType{
		"tab": tea.KeyTab, "enter": tea.KeyEnter, "esc": tea.KeyEsc, "up": tea.KeyUp, "down": tea.KeyDown, "end": tea.KeyEnd, "ctrl+c": tea.KeyCtrlC,
	}
	if k, ok := types[key]; ok {
		return tea.KeyMsg{Type: k}
	}
	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(key)}
}

func TestKeys(t *testing.T) {
	for _, tc := range []struct {
		name string
		keys string
		want string // on the screen after them
		did  string // what was ordered
	}{
		{"overview first", "", "Sites", ""},
		{"number", "7", "Replicas", ""},
		{"tab goes round", "8 tab", "Sites", ""},
		{"help", "?", "States of a node", ""},
		{"help goes", "? ?", "Sites", ""},
		{"fail elsewhere leads to the nodes", "f", "choose a node, then f again", ""},
		{"menu", "2 down f", "power east-core1", ""},
		{"menu leaves", "2 down f esc", "f fail it", ""},
		{"fail", "2 down down f down down enter", "done: hang east-lb1", "fail hang east-lb1"},
		{"heal", "2 down h", "healed", "heal east-core1"},
		{"heal all", "H", "healed", "heal all"},
		{"last node", "2 end h", "healed", "heal west-store1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			did := ""
			m := newModel(t.Context(), Options{
				Topology: testTopology(),
				Collect:  func(context.Context) (*State, error) { return testState(t), nil },
				Fail: func(_ context.Context, f fault.Fault) (string, error) {
					did = "fail " + f.String()
					return "done: " + f.String(), nil
				},
				Heal: func(_ context.Context, words []string) (string, error) {
					did = "heal " + strings.Join(words, " ")
					return "healed", nil
				},
			})
			var now tea.Model = m
			now, _ = now.Update(m.Init()())
			now, _ = now.Update(tea.WindowSizeMsg{Width: 100, Height: 40})
			for _, k := range strings.Fields(tc.keys) {
				var cmd tea.Cmd
				if now, cmd = now.Update(press(k)); cmd != nil {
					now, _ = now.Update(cmd())
				}
			}
			if text := now.View(); !strings.Contains(text, tc.want) {
				t.Errorf("%q is not on the screen:\n%s", tc.want, text)
			}
			if did != tc.did {
				t.Errorf("ordered %q, want %q", did, tc.did)
			}
		})
	}
}

func TestModelEndsWithTheLab(t *testing.T) {
	gone := errors.New("the lab is gone")
	m := newModel(t.Context(), Options{Topology: testTopology()})
	now, cmd := m.Update(collected{err: gone})
	if cmd == nil || cmd() != tea.Quit() || !errors.Is(now.(model).err, gone) {
		t.Error("it does not end with the error")
	}
	if _, cmd := m.Update(press("q")); cmd == nil || cmd() != tea.Quit() {
		t.Error("q does not quit")
	}
}
