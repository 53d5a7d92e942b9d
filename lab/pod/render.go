package pod

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Labels of nodes, which containerlab takes too.
const (
	LabelLayer = "anycastle-layer" // outside, network, front or back
	LabelPod   = "anycastle-pod"   // its number; only nodes of a pod have one
	LabelRole  = "anycastle-role"
	LabelNames = "anycastle-names" // DNS names that the node's certificate is good for, with commas
	labelDisk  = "anycastle-disk"  // size of the node's /var/lib/anycastle
)

// Render gives the files of a topology's folder, by their path in it.
func Render(p Plan) (map[string]string, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	l := newLab(p)
	files := map[string]string{
		p.Name + ".clab.yml": l.topology(),
		"client.yml":         l.clientFile(),
		"unbound.conf":       l.unbound(),
	}
	for pod := 1; pod <= p.Pods; pod++ {
		text, err := l.mailboxesFile(pod)
		if err != nil {
			return nil, err
		}
		files[l.mailboxesName(pod)] = text
	}
	for i, s := range l.strangers() {
		files["nodes/"+s.name+".yml"] = l.strangerNode(i)
	}
	for which, name := range isps {
		files["nodes/"+name+".yml"] = l.ispNode(which)
	}
	for _, h := range l.hosts {
		files["nodes/"+h.name+".yml"] = l.node(h)
	}
	return files, nil
}

// node is the file of a site's host.
func (l *lab) node(h *host) string {
	switch h.role {
	case core:
		return l.coreNode(h)
	case lb:
		return l.lbNode(h)
	case gss:
		return l.gssNode(h)
	case store, standby:
		return l.storeNode(h)
	case monitor:
		return l.monitorNode(h)
	}
	return l.frontNode(h)
}

func (l *lab) mailboxesName(pod int) string {
	return strings.TrimSuffix("mailboxes-"+l.podName(pod), "-") + ".yml"
}

// Write puts rendered files into a folder, which may not have any of them.
func Write(dir string, files map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write topology: %w", err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return fmt.Errorf("write topology: %w", err)
		}
		_, err = f.WriteString(files[name])
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("write topology: %w", err)
		}
	}
	return nil
}
