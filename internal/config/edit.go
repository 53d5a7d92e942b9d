package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ErrLayout says that a file is laid out in a way that an Editor cannot change.
var ErrLayout = errors.New("laid out in a way that can only be edited by hand")

// Field is a key and its value: a string, a list of strings, or Fields.
type Field struct {
	Key   string
	Value any
}

// Editor changes the lists of a file whose sections are lists of mappings. It changes the lines that it must, and leaves
// all others as they are, with their comments. What it makes is to be parsed again by the caller, who knows what it
// should say. It is not safe for concurrent use.
type Editor struct {
	lines []string // each with its end
	root  *yaml.Node
}

// NewEditor reads a file's text, which may be empty.
func NewEditor(text []byte) (*Editor, error) {
	e := &Editor{}
	return e, e.parse(text)
}

func (e *Editor) parse(text []byte) error {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text[:len(text):len(text)], '\n')
	}
	if bytes.ContainsAny(text, "\r\u0085\u2028\u2029\ufeff") {
		return ErrLayout // these end lines in YAML, or are no column, and a line here ends with \n
	}
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc); errors.Is(err, io.EOF) {
		doc.Content = []*yaml.Node{{Kind: yaml.MappingNode}}
	} else if err != nil {
		return fmt.Errorf("not YAML: %w", err)
	}
	if e.root = doc.Content[0]; e.root.Kind != yaml.MappingNode || e.root.Style&yaml.FlowStyle != 0 {
		return ErrLayout
	}
	e.lines = slices.Collect(strings.Lines(string(text)))
	for i := 0; i+1 < len(e.root.Content); i += 2 {
		if k := e.root.Content[i]; !strings.HasPrefix(e.lines[k.Line-1], k.Value+":") {
			return ErrLayout // a section begins its line
		}
	}
	return nil
}

// changed reads the text anew after a change. When that is no YAML any more, the entries lie in a way that was not seen.
func (e *Editor) changed() error {
	if err := e.parse(e.Text()); err != nil {
		return ErrLayout
	}
	return nil
}

// Text gives the text with all changes.
func (e *Editor) Text() []byte { return []byte(strings.Join(e.lines, "")) }

// Empty says whether there is no section.
func (e *Editor) Empty() bool { return len(e.root.Content) == 0 }

// AddText adds a section that is a text, and not a list, and is not there yet.
func (e *Editor) AddText(section, value string) error {
	e.lines = append(e.lines, section+": "+scalarText(value)+"\n")
	return e.changed()
}

// list finds a section's key and its list; both are nil when the file has no such section.
func (e *Editor) list(section string) (key, list *yaml.Node) {
	for i := 0; i+1 < len(e.root.Content); i += 2 {
		if e.root.Content[i].Value == section {
			return e.root.Content[i], e.root.Content[i+1]
		}
	}
	return nil, nil
}

// emptyList is a section without entries.
var emptyList = regexp.MustCompile(`^([^:\s]+:)\s*?(?:\[\s*\])?(\s*(?:#.*)?\n)$`)

// Append adds an entry to the end of a section, which is made when it is missing.
func (e *Editor) Append(section string, fields []Field) error {
	key, list := e.list(section)
	if key == nil {
		e.lines = append(append(e.lines, section+":\n"), render(2, fields)...)
		return e.changed()
	}
	if len(list.Content) == 0 {
		m := emptyList.FindStringSubmatch(e.lines[key.Line-1])
		if m == nil {
			return ErrLayout
		}
		e.lines[key.Line-1] = m[1] + m[2]
		e.lines = slices.Insert(e.lines, key.Line, render(2, fields)...)
		return e.changed()
	}
	last := list.Content[len(list.Content)-1]
	indent, err := e.dash(list, last)
	if err != nil {
		return err
	}
	e.lines = slices.Insert(e.lines, lastLine(last), render(indent, fields)...)
	return e.changed()
}

// Remove takes the i-th entry of a section away, and the comment directly above it unless it is the first.
func (e *Editor) Remove(section string, i int) error {
	key, list := e.list(section)
	if key == nil || i >= len(list.Content) {
		return fmt.Errorf("%s has no entry %d", section, i)
	}
	if _, err := e.dash(list, list.Content[i]); err != nil {
		return err
	}
	from, to := list.Content[i].Line-1, lastLine(list.Content[i])
	for i > 0 && strings.HasPrefix(strings.TrimSpace(e.lines[from-1]), "#") {
		from--
	}
	e.lines = slices.Delete(e.lines, from, to)
	if len(list.Content) == 1 {
		m := emptyList.FindStringSubmatch(e.lines[key.Line-1])
		if m == nil {
			return ErrLayout
		}
		e.lines[key.Line-1] = m[1] + " []" + m[2]
	}
	return e.changed()
}

// Set gives a key of the i-th entry of a section another text. A key that the entry has not yet is put after its first one.
func (e *Editor) Set(section string, i int, name, value string) error {
	key, list := e.list(section)
	if key == nil || i >= len(list.Content) || list.Content[i].Kind != yaml.MappingNode || len(list.Content[i].Content) == 0 {
		return fmt.Errorf("%s has no entry %d with keys", section, i)
	}
	entry := list.Content[i]
	for k := 0; k+1 < len(entry.Content); k += 2 {
		if entry.Content[k].Value == name {
			from, to, err := e.token(entry.Content[k+1])
			if err != nil {
				return err
			}
			e.splice(entry.Content[k+1].Line-1, from, to, scalarText(value))
			return e.changed()
		}
	}
	_, to, err := e.token(entry.Content[1])
	if err != nil {
		return err
	}
	first, line := entry.Content[0], entry.Content[1].Line-1
	if entry.Style&yaml.FlowStyle != 0 {
		e.splice(line, to, to, ", "+name+": "+scalarText(value))
	} else {
		e.lines = slices.Insert(e.lines, line+1, strings.Repeat(" ", first.Column-1)+name+": "+scalarText(value)+"\n")
	}
	return e.changed()
}

// splice replaces characters of a line.
func (e *Editor) splice(line, from, to int, text string) {
	runes := []rune(e.lines[line])
	e.lines[line] = string(runes[:from]) + text + string(runes[to:])
}

// longestToken bounds the characters of a scalar that Set finds in its line.
const longestToken = 1024

// token finds the characters of a scalar in its line.
func (e *Editor) token(n *yaml.Node) (from, to int, err error) {
	if n.Kind != yaml.ScalarNode || n.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) != 0 {
		return 0, 0, ErrLayout
	}
	from = n.Column - 1
	line := []rune(e.lines[n.Line-1])[from:]
	for size := 1; size <= min(len(line), longestToken); size++ {
		// the shortest beginning that says the same, and is whole
		quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0
		if quoted && (size < 2 || line[size-1] != line[0]) {
			continue
		}
		var v yaml.Node
		if yaml.Unmarshal([]byte(string(line[:size])), &v) == nil && len(v.Content) == 1 && v.Content[0].Kind == yaml.ScalarNode &&
			v.Content[0].Value == n.Value {
			return from, from + size, nil
		}
	}
	return 0, 0, ErrLayout
}

// dash gives the column, counted from 0, of the dash before an entry of a list.
func (e *Editor) dash(list, entry *yaml.Node) (int, error) {
	before, _, ok := strings.Cut(e.lines[entry.Line-1], "-")
	if !ok || list.Style&yaml.FlowStyle != 0 || strings.TrimLeft(before, " ") != "" {
		return 0, ErrLayout
	}
	return len(before), nil
}

// lastLine is the number of the last line, counted from 1, that has a part of the node.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// render writes an entry of a list, with its dash indented.
func render(indent int, fields []Field) []string {
	lines := block(indent+2, fields)
	lines[0] = strings.Repeat(" ", indent) + "- " + lines[0][indent+2:]
	return lines
}

func block(indent int, fields []Field) []string {
	var lines []string
	for _, f := range fields {
		key := strings.Repeat(" ", indent) + f.Key + ":"
		switch v := f.Value.(type) {
		case string:
			lines = append(lines, key+" "+scalarText(v)+"\n")
		case []string:
			var items []string
			for _, item := range v {
				items = append(items, scalarText(item))
			}
			lines = append(lines, key+" ["+strings.Join(items, ", ")+"]\n")
		case []Field:
			lines = append(append(lines, key+"\n"), block(indent+2, v)...)
		default:
			panic(fmt.Sprintf("config: a field cannot hold a %T", v))
		}
	}
	return lines
}

// plainScalar needs no quotes anywhere.
var plainScalar = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@._+-]*$`)

func scalarText(s string) string {
	if plainScalar.MatchString(s) && !strings.EqualFold(s, "null") {
		return s
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // YAML's double quotes take all that JSON's do
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(fmt.Sprintf("config: a string cannot be written: %v", err)) // the library writes every string
	}
	return strings.TrimSuffix(b.String(), "\n")
}
