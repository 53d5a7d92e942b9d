package runner

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"anycastle/lab/topology"
)

// maxFolder bounds what Up copies: a topology's folder holds a few configs, anything larger is the wrong folder.
const maxFolder = 64 << 20

// copyTopology copies the folder that the topology file is in.
func (o Options) copyTopology(to string) error {
	if o.Files == nil {
		return copyFolder(to, filepath.Dir(o.Topology))
	}
	folder, err := fs.Sub(o.Files, path.Dir(o.Topology))
	if err != nil {
		return err
	}
	return os.CopyFS(to, folder)
}

// copyFolder copies a folder with its permissions. Modes matter: some programs refuse a key that others may read.
func copyFolder(to, from string) error {
	if rel, err := filepath.Rel(from, to); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("the state folder %s lies in the topology's folder; choose another root", to)
	}
	modes := map[string]fs.FileMode{}
	var size int64
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			modes[rel] = info.Mode().Perm()
		}
		if size += info.Size(); size > maxFolder {
			return fmt.Errorf("%s holds more than %d MiB; give the topology a folder of its own", from, maxFolder>>20)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	for rel, mode := range modes {
		if err := os.Chmod(filepath.Join(to, rel), mode); err != nil {
			return err
		}
	}
	return nil
}

// resolveBinds makes a node's bind sources absolute and wants each to be there.
func (l *Lab) resolveBinds(n topology.Node) (topology.Node, error) {
	binds := make([]topology.Bind, len(n.Binds))
	for i, b := range n.Binds {
		source := b.Source
		if !filepath.IsAbs(source) {
			b.Source = l.SourcePath(source)
		}
		if _, err := os.Stat(b.Source); err != nil {
			return n, fmt.Errorf("bind %s:%s: no such file or folder; make it or mend the bind", source, b.Target)
		}
		binds[i] = b
	}
	n.Binds = binds
	return n, nil
}

// LogPath is the file that takes the output of a node's cmd and exec.
func (l *Lab) LogPath(node string) string { return filepath.Join(l.StateDir, logDir, node+".log") }

// logTail gives the last five lines of a node's log to put behind an error: the log itself goes away with the lab.
func (l *Lab) logTail(node string) string {
	text, err := os.ReadFile(l.LogPath(node))
	if err != nil || len(bytes.TrimSpace(text)) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "; its log ends: " + strings.Join(lines[max(0, len(lines)-5):], " | ")
}

// SourcePath is where the lab has its own copy of a file of the topology's folder.
func (l *Lab) SourcePath(name string) string { return filepath.Join(l.StateDir, topoDir, name) }
