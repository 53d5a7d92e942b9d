package store

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"anycastle/mailroles/maildir"
)

// adoptAtOnce is how many messages one operation adopts.
const adoptAtOnce = 1000

// takeIn does the operations that a tree asks for which others changed: folders and messages that nobody knows get a
// GUID and UIDs, a mailbox without INBOX gets one, and messages whose files are lost go.
func (m *Mailbox) takeIn(p plan, t *tree, do carrier) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("adopt mail of %s: %w", m.address, err)
		}
	}()
	for _, f := range p.bare {
		if err := m.found(f, &p, do); err != nil {
			return err
		}
	}
	if _, err := m.Folder(maildir.Inbox); err != nil {
		if err := m.begun(maildir.Inbox, do); err != nil {
			return err
		}
	}
	for _, guid := range slices.Sorted(maps.Keys(p.foreign)) {
		list, err := m.candidates(guid, p.foreign[guid], t)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(list, adoptAtOnce) {
			if err := m.takeMessages(guid, part, do); err != nil {
				return err
			}
		}
	}
	for _, guid := range slices.Sorted(maps.Keys(p.lost)) {
		if err := m.giveUp(guid, p.lost[guid], do); err != nil {
			return err
		}
	}
	return nil
}

// found makes a folder of a directory that nobody knows. Its messages are adopted with the others'.
func (m *Mailbox) found(f *treeFolder, p *plan, do carrier) error {
	if err := m.begun(f.name, do); err != nil {
		return err
	}
	folder, err := m.Folder(f.name)
	if err != nil {
		return err
	}
	for _, base := range slices.Sorted(maps.Keys(f.files)) {
		p.foreign[folder.guid] = append(p.foreign[folder.guid], f.files[base][0])
		for _, more := range f.files[base][1:] {
			if err := m.store.quarantine(filepath.Join(f.dir, more.file), secondFile); err != nil {
				return err
			}
		}
	}
	for _, o := range f.odd {
		if err := m.store.quarantine(o.path, o.reason); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	folder.keywords = f.keywords
	folder.aheadKeywords = f.keywords
	return nil
}

// begun makes a folder by an operation. In the tree it may be there, in part or as a whole.
func (m *Mailbox) begun(name string, do carrier) error {
	return do(true, func() (*op, error) { return m.creation(name) })
}

// candidate is a file that may be adopted.
type candidate struct {
	treeFile
	base string
	fileInfo
}

// candidates looks at files, and gives them as they came: by date, and then by name.
func (m *Mailbox) candidates(guid string, files []treeFile, t *tree) ([]candidate, error) {
	m.mu.Lock()
	from := &treeFolder{dir: m.byGUID[guid].dir(m.address)}
	m.mu.Unlock()
	for _, f := range t.folders {
		if f.dir == from.dir {
			from = f
		}
	}
	var list []candidate
	for _, file := range files {
		n, _ := maildir.ParseName(filepath.Base(file.file))
		info, err := m.store.info(t, from, n.Base, filepath.Join(from.dir, file.file))
		if err != nil {
			return nil, err
		}
		list = append(list, candidate{file, n.Base, info})
	}
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Or(a.date.Compare(b.date), cmp.Compare(a.base, b.base)) })
	return list, nil
}

// takeMessages gives UIDs to messages that somebody else put into a folder.
func (m *Mailbox) takeMessages(guid string, list []candidate, do carrier) error {
	err := do(true, func() (*op, error) {
		f := m.byGUID[guid]
		o := &op{Kind: opAdopt, Folder: guid}
		keywords := f.aheadKeywords
		m.adopting = map[string]string{}
		for i, c := range list {
			names := lettersNames(f.aheadKeywords, c.letters)
			grown, err := learn(keywords, names)
			if err != nil {
				m.log.Warn("adopted message loses keywords", "folder", f.name, "file", c.file, "err", err)
			}
			keywords = grown
			marks := tidy(keywords, Marks{Flags: c.letters.System(), Keywords: names})
			o.Arrivals = append(o.Arrivals, arrival{
				UID: f.aheadNext + uint32(i), Base: c.base, Flags: marks.Flags, Keywords: marks.Keywords,
				Size: c.size, Wide: c.wide, Date: c.date.Unix(),
			})
			m.adopting[c.base] = c.file
		}
		m.log.Info("adopting mail of others", "folder", f.name, "messages", len(list))
		return o, nil
	})
	if err == nil {
		m.mu.Lock()
		m.adopting = nil
		m.mu.Unlock()
		m.store.note(func(r *Report) { r.Adopted += len(list) })
	}
	return err
}

// lettersNames gives the keywords that letters stand for. A letter without a keyword gets a name of its own.
func lettersNames(known []string, letters maildir.Flags) []string {
	var names []string
	for i := range maildir.MaxKeywords {
		switch {
		case letters&maildir.Letter(i) == 0:
		case i < len(known) && known[i] != "":
			names = append(names, known[i])
		default:
			names = append(names, fmt.Sprintf("unknown-%d", i))
		}
	}
	return names
}

// giveUp takes messages out whose files are lost.
func (m *Mailbox) giveUp(guid string, list []*Message, do carrier) error {
	return do(true, func() (*op, error) {
		f := m.byGUID[guid]
		o := &op{Kind: opExpunge, Folder: guid}
		for _, msg := range list {
			m.log.Error("message has no file", "folder", f.name, "uid", msg.UID, "file", msg.base)
			o.Gone = append(o.Gone, maildir.UIDEntry{UID: msg.UID, Base: msg.base})
		}
		m.store.note(func(r *Report) {
			for _, msg := range list {
				r.miss(Missing{Mailbox: m.address, Folder: f.name, UID: msg.UID, File: msg.base})
			}
		})
		return o, nil
	})
}
