package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxSize bounds a node file: a larger one is refused before it is parsed.
const MaxSize = 4 << 20

// Doc is a parsed node file together with the complaints found in it so far. It is not safe for concurrent use.
type Doc struct {
	name     string
	root     *yaml.Node
	problems []Problem
	misread  []string // paths of values that could not be decoded, or whose key is misspelt
}

// Problem is one thing wrong with a node file.
type Problem struct {
	File string
	Line int
	Path string // "lb.vips[0].farm"; empty for the file as a whole
	Text string // what is wrong and how to mend it
}

// Error gives "file:line: path: text".
func (p Problem) Error() string {
	if p.Path == "" {
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Path, p.Text)
}

// Load reads and parses the node file at path. A syntax error is returned at once as a Problem; everything else is
// collected and comes from Err.
func Load(path string) (*Doc, error) { return LoadUpTo(path, MaxSize) }

// LoadUpTo is Load for a file of another kind, which may have most bytes.
func LoadUpTo(path string, most int64) (*Doc, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	return ParseUpTo(path, text, most)
}

// Parse is Load for text that is already in memory; name stands for the file in complaints.
func Parse(name string, text []byte) (*Doc, error) { return ParseUpTo(name, text, MaxSize) }

// ParseUpTo is LoadUpTo for text that is already in memory.
func ParseUpTo(name string, text []byte, most int64) (*Doc, error) {
	d := &Doc{name: name}
	if int64(len(text)) > most {
		return nil, Problem{File: name, Line: 1, Text: fmt.Sprintf("larger than %d bytes, which no file of this kind should be", most)}
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, Problem{File: name, Line: 1, Text: "empty; write at least one section, such as `lb:` or `mail:` in a node file"}
		}
		return nil, syntaxProblem(name, text, err)
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, syntaxProblem(name, text, err)
		}
		return nil, Problem{File: name, Line: max(more.Line, 1), Text: "a second YAML document; a file has one, so remove this `---` or what follows it"}
	}
	d.root = doc.Content[0]
	if d.root.Kind != yaml.MappingNode {
		return nil, Problem{File: name, Line: d.root.Line, Text: "want a mapping of sections at the top, such as `lb:` or `mail:` in a node file"}
	}
	d.refuseSurprises(d.root, "")
	d.refuseDuplicates(d.root, "")
	return d, nil
}

// syntaxProblem turns the parser's "yaml: line 7: did not find expected key" into a Problem on the right line.
func syntaxProblem(name string, text []byte, err error) Problem {
	what := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if n, _ := fmt.Sscanf(what, "line %d: ", &line); n == 1 {
		_, what, _ = strings.Cut(what, ": ")
	}
	if lines := bytes.SplitAfter(text, []byte("\n")); len(text) <= 64<<10 && len(lines) <= 1000 {
		line = syntaxLine(text, lines) // it parses the text once a line, so a very large file does without
	}
	for _, m := range syntaxMends {
		if strings.Contains(what, m.says) {
			what += "; " + m.mend
		}
	}
	return Problem{File: name, Line: line, Text: "not YAML: " + what}
}

// syntaxMends says what usually lies behind the parser's words.
var syntaxMends = []struct{ says, mend string }{
	{"cannot start any token", "indent with spaces, not tabs, and put text that begins with a sign such as @ or % in quotes"},
	{"mapping values are not allowed", "end each key with a colon and a space, also on the line above, put a space after a dash, and quotes around text with a colon in it"},
	{"did not find expected key", "let this line begin below the other keys of its block"},
	{"did not find expected '-' indicator", "let the keys of a list entry begin below the key that follows the dash"},
	{"did not find expected ','", "close the bracket, and put a comma between entries"},
	{"found unexpected end of stream", "close the quotes"},
	{"could not find expected ':'", "write `key: value`, with a space after the colon"},
}

// syntaxLine finds the line of a syntax error: the first from which on no beginning of the text is YAML. The parser
// itself gives a line of the block around the error, or the one before it.
func syntaxLine(text []byte, lines [][]byte) int {
	end := len(text)
	for i := len(lines) - 1; i > 0; i-- {
		end -= len(lines[i])
		dec := yaml.NewDecoder(bytes.NewReader(text[:end]))
		var err error
		for err == nil {
			err = dec.Decode(new(yaml.Node))
		}
		if errors.Is(err, io.EOF) {
			return i + 1
		}
	}
	return 1
}

// refuseSurprises reports aliases and anchors, which make a value's line another one than the reader sees, and tags and
// composed keys, which no node file has a use for.
func (d *Doc) refuseSurprises(n *yaml.Node, path string) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.add(n.Line, path, "YAML anchors and aliases are not taken; write the value out")
		return
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.add(n.Line, path, fmt.Sprintf("YAML tags are not taken; remove %s", n.Tag))
	}
	for i, c := range n.Content {
		p := path
		if n.Kind == yaml.MappingNode && i%2 == 0 && c.Kind != yaml.ScalarNode {
			d.add(c.Line, path, "a key is a plain word; write `key: value`")
		}
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			p = join(path, n.Content[i-1].Value)
		}
		d.refuseSurprises(c, p)
	}
}

func (d *Doc) refuseDuplicates(n *yaml.Node, path string) {
	switch n.Kind {
	case yaml.MappingNode:
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if line, ok := first[k.Value]; ok {
				d.add(k.Line, join(path, k.Value), fmt.Sprintf("given twice, first on line %d; keep one", line))
			} else {
				first[k.Value] = k.Line
			}
			d.refuseDuplicates(n.Content[i+1], join(path, k.Value))
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			d.refuseDuplicates(c, fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// Sections names the top-level keys in the order of the file.
func (d *Doc) Sections() []string { return keys(d.root) }

func keys(mapping *yaml.Node) []string {
	var names []string
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		names = append(names, mapping.Content[i].Value)
	}
	return names
}

// Has reports whether the file has the section.
func (d *Doc) Has(section string) bool { return slices.Contains(d.Sections(), section) }

// KnownSections reports each section that is none of the given ones.
func (d *Doc) KnownSections(known ...string) {
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		k := d.root.Content[i]
		if !slices.Contains(known, k.Value) {
			d.refuseUnknown("section", Cursor{doc: d, node: d.root}, k, known)
		}
	}
}

// Err joins what was found wrong, in the order of the file; nil when nothing was.
func (d *Doc) Err() error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
	errs := make([]error, len(d.problems))
	for i, p := range d.problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

func (d *Doc) add(line int, path, text string) {
	d.problems = append(d.problems, Problem{File: d.name, Line: line, Path: path, Text: text})
}

// Cursor is a place in a node file. The zero Cursor points nowhere and drops complaints, so that a config built in
// memory can be validated by the same code; use Check to hear of them.
type Cursor struct {
	doc  *Doc
	node *yaml.Node
	path string
}

// Key steps to the value under a key of a mapping. When the key is absent, complaints go to the mapping's own line.
func (c Cursor) Key(name string) Cursor {
	next := Cursor{doc: c.doc, node: c.node, path: join(c.path, name)}
	if c.node != nil && c.node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(c.node.Content); i += 2 {
			if c.node.Content[i].Value == name {
				next.node = c.node.Content[i+1]
				if next.node.Kind == yaml.MappingNode || next.node.Kind == yaml.SequenceNode {
					// a block's own line is that of its first entry; the key is where the reader looks
					n := *next.node
					n.Line = c.node.Content[i].Line
					next.node = &n
				}
				break
			}
		}
	}
	return next
}

// Has says whether the mapping here has the key.
func (c Cursor) Has(name string) bool {
	return c.node != nil && c.node.Kind == yaml.MappingNode && slices.Contains(keys(c.node), name)
}

// Index steps to the i-th entry of a sequence.
func (c Cursor) Index(i int) Cursor {
	next := Cursor{doc: c.doc, node: c.node, path: fmt.Sprintf("%s[%d]", c.path, i)}
	if c.node != nil && c.node.Kind == yaml.SequenceNode && i < len(c.node.Content) {
		next.node = c.node.Content[i]
	}
	return next
}

// Line steps to the i-th line, counted from 1, of a text that the file holds as a literal block (`|`). A text written
// in any other way is one place.
func (c Cursor) Line(i int) Cursor {
	if c.node == nil || c.node.Kind != yaml.ScalarNode || c.node.Style&yaml.LiteralStyle == 0 {
		return c
	}
	n := *c.node
	n.Line += i
	return Cursor{doc: c.doc, node: &n, path: c.path}
}

// misread is Errorf for a value that could not be decoded.
func (c Cursor) misread(format string, args ...any) {
	c.Errorf(format, args...)
	c.doc.misread = append(c.doc.misread, c.path)
}

// Errorf reports a problem here: what is wrong, then how to mend it. A value that could not be decoded has been
// complained of already, and what is said of it or of anything in it is dropped: it would be about the default.
func (c Cursor) Errorf(format string, args ...any) {
	if c.doc == nil || slices.ContainsFunc(c.doc.misread, c.within) {
		return
	}
	line := 1
	if c.node != nil {
		line = c.node.Line
	}
	c.doc.add(line, c.path, fmt.Sprintf(format, args...))
}

// Failed says whether anything was complained of so far, be it here or elsewhere in the document.
func (c Cursor) Failed() bool { return c.doc != nil && c.doc.Err() != nil }

// within says whether the Cursor points to the path or to something in it.
func (c Cursor) within(path string) bool {
	rest, ok := strings.CutPrefix(c.path, path)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Check runs a validation on a config that was built in memory and returns what it complained of.
func Check(name string, validate func(Cursor)) error {
	d := &Doc{name: name}
	validate(Cursor{doc: d})
	return d.Err()
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
