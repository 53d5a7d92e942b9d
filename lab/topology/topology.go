package topology

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"

	"anycastle/internal/config"
)

// DefaultMTU is the MTU of a link that names none, as in containerlab.
const DefaultMTU = 9500

// Topology is a lab as its file describes it, with defaults laid under every node. It is plain data.
type Topology struct {
	Name  string
	Nodes []Node // by name
	Links []Link // in the order of the file
}

// Node is one machine of the lab.
type Node struct {
	Name  string
	Group string            // names nodes that belong together, such as a site's; see Topology.Group
	Cmd   []string          // long-running command, started when all links exist; empty for none
	Exec  [][]string        // commands run one after the other when the cmd of every node has been started
	Binds []Bind            // by target, so that a parent comes before what lies in it
	Env   map[string]string // never nil

	Labels map[string]string // say what a node is, to tools and to people; never nil
	Disk   int64             // bytes of a disk of the node's own, from DiskLabel; 0 for none
}

// DiskLabel is the label that gives a node a small disk of its own, which can be filled, such as `anycastle-disk: 96M`.
// It is a label because containerlab refuses keys that it does not know; there the label says nothing.
const DiskLabel = "anycastle-disk"

// Bind shows a file or folder of the host in the node.
type Bind struct {
	Source   string // absolute, or relative to the topology's folder and inside it
	Target   string // absolute and clean
	ReadOnly bool
}

// Link is a pair of interfaces joined back to back.
type Link struct {
	A, B Endpoint
	MTU  int // bytes
}

// Endpoint is one end of a link.
type Endpoint struct {
	Node, Interface string
}

// String gives "node:interface", the form that the file uses.
func (e Endpoint) String() string { return e.Node + ":" + e.Interface }

// Ends gives both ends, for loops.
func (l Link) Ends() [2]Endpoint { return [2]Endpoint{l.A, l.B} }

// Node finds a node by its name.
func (t *Topology) Node(name string) (Node, bool) {
	for _, n := range t.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// Group names the nodes of a group, in the topology's order; none when there is no such group.
func (t *Topology) Group(name string) []string {
	var nodes []string
	for _, n := range t.Nodes {
		if n.Group == name {
			nodes = append(nodes, n.Name)
		}
	}
	return nodes
}

// Load reads the topology file at path. The error joins everything that is wrong with it, each a config.Problem.
func Load(path string) (*Topology, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open topology: %w", err)
	}
	return read(f, path)
}

// LoadFrom is Load for a file in files; nil stands for the machine's own.
func LoadFrom(files fs.FS, path string) (*Topology, error) {
	if files == nil {
		return Load(path)
	}
	f, err := files.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open topology: %w", err)
	}
	return read(f, path)
}

func read(f io.ReadCloser, path string) (*Topology, error) {
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, config.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	return Parse(path, text)
}

// Parse is Load for text that is already in memory; name stands for the file in complaints.
func Parse(name string, text []byte) (*Topology, error) {
	doc, err := config.Parse(name, text)
	if err != nil {
		return nil, err
	}
	if i := replaced.FindIndex(text); i != nil {
		return nil, config.Problem{File: name, Line: 1 + bytes.Count(text[:i[0]], []byte("\n")), Text: fmt.Sprintf(
			"containerlab would replace what follows %q before it reads the file, the lab does not; write the value out", text[i[0]:i[1]])}
	}
	doc.KnownSections("name", "topology")
	var t Topology
	at := doc.Decode("name", &t.Name)
	if err := CheckName(t.Name); err != nil {
		at.Errorf("%v", err)
	}
	var f file
	at = doc.Decode("topology", &f)
	if err := doc.Err(); err != nil {
		return nil, err // what is read from a misspelt file would only raise false complaints
	}
	f.validate(at)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	t.Nodes, t.Links = f.nodes(), f.links()
	return &t, nil
}

// replaced is what containerlab takes for a template or a variable of its caller's environment, comments included.
var replaced = regexp.MustCompile(`\{\{|\$[a-zA-Z_{$]`)

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)

// CheckName says whether a lab or a node may have the name: it becomes a host name and a file name.
func CheckName(name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	if name == "" {
		return fmt.Errorf("no name; give one such as two-site")
	}
	return fmt.Errorf("%q is no name; use up to 63 letters, digits, dots, dashes and underscores, a letter or digit first", name)
}
