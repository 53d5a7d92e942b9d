package store

import (
	"maps"
	"path/filepath"
	"slices"

	"anycastle/mailroles/maildir"
)

// step is one change of the tree on its way to what the state wants. Doing a step again, or the whole plan after some of
// its steps, leads to the same tree.
type step struct {
	do       stepKind
	from, to string    // paths below the LUN's directory
	folder   *contents // of makeFolder
	reason   string    // of quarantine
}

type stepKind int

const (
	stepRename stepKind = iota
	stepMakeFolder
	stepRemove
	stepQuarantine
)

// secondFile is the reason for which a file is put aside whose message has another.
const secondFile = "is a second file of a message"

// plan is what makes a tree fit a state.
type plan struct {
	steps   []step
	files   map[*Message]string   // where each message is once the steps are done
	lost    map[string][]*Message // by folder: those that have no file
	foreign map[string][]treeFile // by folder: files that nobody knows, and that may be mail
	bare    []*treeFolder         // folders that nobody knows
}

// planner finds the plan of one mailbox.
type planner struct {
	plan
	address string
	state   *state
	tree    *tree
	dead    map[deadFile]bool
}

// makePlan compares. It changes nothing and looks at nothing but what it is given.
func makePlan(address string, st *state, t *tree, dead map[deadFile]bool) plan {
	p := &planner{
		plan:    plan{files: map[*Message]string{}, lost: map[string][]*Message{}, foreign: map[string][]treeFile{}},
		address: address, state: st, tree: t, dead: dead,
	}
	for _, d := range t.damaged {
		p.steps = append(p.steps, step{do: stepQuarantine, from: d.path, reason: d.reason})
	}
	has := p.planFolders()
	for _, c := range st.sorted() {
		p.planMessages(c, has[c.guid])
	}
	return p.plan
}

// planFolders gives each folder its directory: deleted ones leave first, so that their names are free, then known ones
// take their names, and those that are missing are made. The result tells which directory a folder has.
func (p *planner) planFolders() map[string]*treeFolder {
	has := map[string]*treeFolder{}
	taken := map[string]*treeFolder{}
	for _, f := range p.tree.folders {
		taken[f.dir] = f
	}
	for _, f := range p.tree.folders {
		switch {
		case f.list == nil || has[f.list.GUID] != nil:
			p.bare = append(p.bare, f)
		case p.state.folders[f.list.GUID] == nil:
			p.steps = append(p.steps, step{do: stepRename, from: f.dir, to: grave(f.list.GUID)})
			delete(taken, f.dir)
		default:
			has[f.list.GUID] = f
		}
	}
	wrong := map[string]*treeFolder{}
	for guid, f := range has {
		if f.dir != p.state.folders[guid].dir(p.address) {
			wrong[guid] = f
		}
	}
	p.moveFolders(wrong, taken)
	for _, c := range p.state.sorted() {
		if has[c.guid] == nil {
			dir := c.dir(p.address)
			if isDir, there := p.tree.others[dir]; there && !isDir {
				p.clear(dir)
			}
			p.steps = append(p.steps, step{do: stepMakeFolder, to: dir, folder: c})
			if f := taken[dir]; f != nil { // it has begun to be this folder
				has[c.guid] = f
				p.bare = slices.DeleteFunc(p.bare, func(b *treeFolder) bool { return b == f })
			}
		}
	}
	return has
}

// moveFolders gives directories their names as those become free. Those that wait for one another, or for one that
// nobody knows, are broken up by a name of the meantime.
func (p *planner) moveFolders(wrong, taken map[string]*treeFolder) {
	for len(wrong) > 0 {
		moved := false
		for _, guid := range slices.Sorted(maps.Keys(wrong)) {
			f, to := wrong[guid], p.state.folders[guid].dir(p.address)
			if taken[to] == nil {
				p.moveFolder(f, to, taken)
				delete(wrong, guid)
				moved = true
			}
		}
		if moved {
			continue
		}
		guid := slices.Sorted(maps.Keys(wrong))[0]
		block := taken[p.state.folders[guid].dir(p.address)]
		p.moveFolder(block, filepath.Join(p.address, ".anycastle-moving-"+guid), taken)
	}
}

func (p *planner) moveFolder(f *treeFolder, to string, taken map[string]*treeFolder) {
	if _, there := p.tree.others[to]; there {
		p.clear(to)
	}
	p.steps = append(p.steps, step{do: stepRename, from: f.dir, to: to})
	delete(taken, f.dir)
	f.dir = to
	f.name, _ = maildir.FolderName(filepath.Base(to))
	taken[to] = f
}

// clear puts aside what has the name that a folder is to have.
func (p *planner) clear(path string) {
	p.steps = append(p.steps, step{do: stepQuarantine, from: path, reason: "is in the way of a folder"})
	delete(p.tree.others, path)
}

// planMessages finds each message's file, and sorts the others.
func (p *planner) planMessages(c *contents, f *treeFolder) {
	dir := c.dir(p.address)
	var files map[string][]treeFile
	if f != nil {
		files = maps.Clone(f.files)
		for _, o := range f.odd {
			from := filepath.Join(dir, filepath.Base(filepath.Dir(o.path)), filepath.Base(o.path))
			p.steps = append(p.steps, step{do: stepQuarantine, from: from, reason: o.reason})
		}
	}
	for _, m := range c.messages {
		p.planMessage(c, m, dir, files[m.base])
		delete(files, m.base)
	}
	for _, base := range slices.Sorted(maps.Keys(files)) {
		for i, file := range files[base] {
			path := filepath.Join(dir, file.file)
			switch {
			case p.dead[deadFile{c.guid, base}]:
				p.steps = append(p.steps, step{do: stepRemove, from: path})
			case i > 0:
				p.steps = append(p.steps, step{do: stepQuarantine, from: path, reason: secondFile})
			default:
				p.foreign[c.guid] = append(p.foreign[c.guid], file)
			}
		}
	}
}

func (p *planner) planMessage(c *contents, m *Message, dir string, own []treeFile) {
	if len(own) == 0 {
		if !p.tree.incoming[maildir.Unique(m.base)] {
			p.lost[c.guid] = append(p.lost[c.guid], m)
			return
		}
		p.files[m] = c.inCur(m)
		p.steps = append(p.steps, step{do: stepRename, from: bodyPath(m.base), to: filepath.Join(dir, p.files[m])})
		return
	}
	best := 0
	for i, file := range own {
		probe := *m
		if probe.file = file.file; c.wanted(&probe) == file.file {
			best = i
		}
	}
	for i, file := range own {
		if i != best {
			p.steps = append(p.steps, step{do: stepQuarantine, from: filepath.Join(dir, file.file), reason: secondFile})
		}
	}
	probe := *m
	probe.file = own[best].file
	p.files[m] = c.wanted(&probe)
	if p.files[m] != probe.file {
		p.steps = append(p.steps, step{do: stepRename, from: filepath.Join(dir, probe.file), to: filepath.Join(dir, p.files[m])})
	}
}
