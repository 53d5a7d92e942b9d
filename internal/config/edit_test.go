package config

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const edited = `# Who is where.
boxes:
  # the first
  - name: alice   # hers
    lun: east

  # bob is about to move
  - {name: bob, lun: "west"}
  - name: 'carol'
    lun: east
    # as told by her
    quota: {size: 5G}
# the others
groups: [] # none yet
`

func TestEditor(t *testing.T) {
	dave := []Field{{"name", "dave"}, {"lun", "null"}, {"quota", []Field{{"size", "1G"}}}, {"also", []string{"d", "#d"}}}
	for name, tc := range map[string]struct {
		do   func(*Editor) error
		diff [2]string // what of the text is replaced, and by what
	}{
		"append":                {func(e *Editor) error { return e.Append("boxes", dave) }, [2]string{"{size: 5G}\n", "{size: 5G}\n  - name: dave\n    lun: \"null\"\n    quota:\n      size: 1G\n    also: [d, \"#d\"]\n"}},
		"append to empty":       {func(e *Editor) error { return e.Append("groups", dave[:1]) }, [2]string{"groups: [] # none yet\n", "groups: # none yet\n  - name: dave\n"}},
		"append to none":        {func(e *Editor) error { return e.Append("more", dave[:2]) }, [2]string{"none yet\n", "none yet\nmore:\n  - name: dave\n    lun: \"null\"\n"}},
		"a text":                {func(e *Editor) error { return e.AddText("seed", "a=") }, [2]string{"none yet\n", "none yet\nseed: \"a=\"\n"}},
		"set":                   {func(e *Editor) error { return e.Set("boxes", 0, "name", "al ice") }, [2]string{"name: alice ", "name: \"al ice\" "}},
		"set, quoted":           {func(e *Editor) error { return e.Set("boxes", 2, "name", "carla") }, [2]string{"'carol'", "carla"}},
		"set, flow":             {func(e *Editor) error { return e.Set("boxes", 1, "lun", "no,rth") }, [2]string{`"west"`, `"no,rth"`}},
		"set, new key":          {func(e *Editor) error { return e.Set("boxes", 0, "note", "x<y") }, [2]string{"# hers\n", "# hers\n    note: \"x<y\"\n"}},
		"set, new key in flow":  {func(e *Editor) error { return e.Set("boxes", 1, "note", "x") }, [2]string{"bob,", "bob, note: x,"}},
		"remove":                {func(e *Editor) error { return e.Remove("boxes", 1) }, [2]string{"  # bob is about to move\n  - {name: bob, lun: \"west\"}\n", ""}},
		"remove the first":      {func(e *Editor) error { return e.Remove("boxes", 0) }, [2]string{"  - name: alice   # hers\n    lun: east\n", ""}},
		"remove and put back":   {func(e *Editor) error { return errors.Join(e.Append("groups", dave[:1]), e.Remove("groups", 0)) }, [2]string{"groups: []", "groups: []"}},
		"two after one another": {func(e *Editor) error { return errors.Join(e.Set("boxes", 0, "a", "1"), e.Set("boxes", 1, "a", "2")) }, [2]string{"# hers\n    lun: east\n\n  # bob is about to move\n  - {name: bob,", "# hers\n    a: 1\n    lun: east\n\n  # bob is about to move\n  - {name: bob, a: 2,"}},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := NewEditor([]byte(edited))
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.do(e); err != nil {
				t.Fatal(err)
			}
			before, after, ok := cut(edited, tc.diff[0])
			if !ok {
				t.Fatalf("the text has %q not once", tc.diff[0])
			}
			if diff := cmp.Diff(before+tc.diff[1]+after, string(e.Text())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// cut splits a text around a part that it has once.
func cut(text, part string) (before, after string, ok bool) {
	for i := 0; i+len(part) <= len(text); i++ {
		if text[i:i+len(part)] == part {
			if ok {
				return "", "", false
			}
			before, after, ok = text[:i], text[i+len(part):], true
		}
	}
	return before, after, ok
}

func TestEditorOfNothing(t *testing.T) {
	for _, text := range []string{"", "# only a comment\n", "a: b"} {
		e, err := NewEditor([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if e.Empty() != (text != "a: b") {
			t.Errorf("%q is empty: %v", text, e.Empty())
		}
		if err := e.Append("boxes", []Field{{"name", "alice"}}); err != nil {
			t.Fatal(err)
		}
		want := text + "boxes:\n  - name: alice\n"
		if text == "a: b" {
			want = "a: b\nboxes:\n  - name: alice\n"
		}
		if got := string(e.Text()); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestEditorRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		do   func(*Editor) error
	}{
		"a list in brackets":    {"boxes: [{name: alice}]\n", func(e *Editor) error { return e.Append("boxes", []Field{{"name", "bob"}}) }},
		"remove from brackets":  {"boxes: [{name: alice}]\n", func(e *Editor) error { return e.Remove("boxes", 0) }},
		"a block of text":       {"boxes:\n  - name: |\n      alice\n", func(e *Editor) error { return e.Set("boxes", 0, "name", "bob") }},
		"two lines of text":     {"boxes:\n  - name: \"al\n      ice\"\n", func(e *Editor) error { return e.Set("boxes", 0, "name", "bob") }},
		"a dash of its own":     {"boxes:\n  -\n    name: alice\n", func(e *Editor) error { return e.Append("boxes", []Field{{"name", "bob"}}) }},
		"brackets below":        {"boxes:\n  - {name: alice,\n    }\n", func(e *Editor) error { return e.Append("boxes", []Field{{"name", "bob"}}) }},
		"empty over many lines": {"boxes: [\n  ]\n", func(e *Editor) error { return e.Append("boxes", []Field{{"name", "bob"}}) }},
	} {
		e, err := NewEditor([]byte(tc.text))
		if err != nil {
			t.Fatal(err)
		}
		if err := tc.do(e); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: %v, want ErrLayout", name, err)
		}
	}
	for _, text := range []string{"- a\n", "{a: b}\n", "a: [\n", "a: b\r\n", "a: \u2028b\n", "\ufeffa: b\n"} {
		if _, err := NewEditor([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Whatever a file is like, a change is made or refused, and changes nothing but what it is about.
func FuzzEditor(f *testing.F) {
	f.Add(edited, "dave", uint8(0))
	f.Add("boxes:\n  - {name: alice}\n  - name: 'b''c'\n    lun: \"x\\ty\"\n", "a: b", uint8(1))
	f.Add("boxes: []\n", "#", uint8(0))
	f.Add("boxes:\n- - a\n- ? {a: b}\n  : c\n", "", uint8(0))
	f.Fuzz(func(t *testing.T, text, value string, i uint8) {
		e, err := NewEditor([]byte(text))
		if err != nil {
			return
		}
		if d, err := Parse("file", []byte(text)); err != nil || d.Err() != nil {
			_ = errors.Join(e.Set("boxes", int(i), "name", value), e.Append("boxes", []Field{{"name", "last"}}), e.Remove("boxes", int(i)))
			return // no caller would edit that
		}
		before := entries(e)
		if utf8.ValidString(value) && e.Set("boxes", int(i), "name", value) == nil {
			before[i] = nil
			after := entries(e)
			if got := after[i]["name"]; got != value {
				t.Fatalf("set %q in %q: it is %q in %q", value, text, got, e.Text())
			}
			after[i] = nil
			if diff := cmp.Diff(before, after); diff != "" {
				t.Fatalf("set %q in %q changes (-want +got):\n%s", value, text, diff)
			}
		}
		before = entries(e)
		if e.Append("boxes", []Field{{"name", "last"}}) == nil {
			if diff := cmp.Diff(append(before, map[string]string{"name": "last"}), entries(e)); diff != "" {
				t.Fatalf("append to %q changes (-want +got):\n%s", text, diff)
			}
		}
		before = entries(e)
		if e.Remove("boxes", int(i)) == nil {
			if diff := cmp.Diff(slices.Delete(before, int(i), int(i)+1), entries(e)); diff != "" {
				t.Fatalf("remove %d from %q changes (-want +got):\n%s", i, text, diff)
			}
		}
	})
}

// entries gives the texts of the section boxes.
func entries(e *Editor) []map[string]string {
	list := []map[string]string{}
	_, n := e.list("boxes")
	if n == nil {
		return list
	}
	for _, entry := range n.Content {
		m := map[string]string{}
		if entry.Kind != yaml.MappingNode {
			m["kind"] = fmt.Sprint(entry.Kind, entry.Value, len(entry.Content))
		}
		for k := 0; entry.Kind == yaml.MappingNode && k+1 < len(entry.Content); k += 2 {
			if _, ok := m[entry.Content[k].Value]; !ok {
				m[entry.Content[k].Value] = entry.Content[k+1].Value
			}
		}
		list = append(list, m)
	}
	return list
}
