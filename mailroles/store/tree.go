package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/mailroles/maildir"
)

// validityFile holds the highest UIDVALIDITY that the mailbox gave.
const validityFile = "anycastle-uidvalidity"

// tree is what a mailbox's directory has.
type tree struct {
	folders  []*treeFolder
	counter  uint32
	changed  uint64 // last operation, of a replicated LUN
	subs     []string
	incoming map[string]bool // bodies that wait, by the unique part of their base names
	others   map[string]bool // what has a folder's name and is none, by path: true for a directory
	damaged  []oddFile
	looked   int // files that the indexes did not have
}

// treeFolder is a directory that is a folder, by its cur. Paths are below the LUN's directory.
type treeFolder struct {
	dir, name string
	list      *maildir.UIDList // nil when there is none that can be read
	torn      bool
	found     listSums  // of the lists that are there
	lists     *listSums // of those that the index was written with; nil: it does not tell
	keywords  []string
	index     map[string]fileInfo   // by base name
	changed   uint64                // as the index says
	files     map[string][]treeFile // by base name
	odd       []oddFile             // what can be no message
}

// treeFile is a file that may be a message.
type treeFile struct {
	file    string // below the folder
	letters maildir.Flags
}

// oddFile is what the store does not know, and why.
type oddFile struct{ path, reason string }

// readTree reads a mailbox's directory.
func (s *Store) readTree(address string) (*tree, error) {
	t := &tree{incoming: map[string]bool{}, others: map[string]bool{}}
	waiting, err := os.ReadDir(s.files.at(incomingDir))
	if err != nil {
		return nil, fmt.Errorf("read incoming directory: %w", err)
	}
	for _, e := range waiting {
		t.incoming[e.Name()] = true
	}
	entries, err := os.ReadDir(s.files.at(address))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read mailbox: %w", err)
	}
	dirs := map[string]string{maildir.Inbox: address}
	for _, e := range entries {
		if name, ok := maildir.FolderName(e.Name()); ok && name != maildir.Inbox {
			dirs[name] = filepath.Join(address, e.Name())
			t.others[dirs[name]] = e.IsDir()
		}
	}
	for name, dir := range dirs {
		is, err := s.isFolder(dir)
		if err != nil {
			return nil, err
		}
		if !is {
			continue
		}
		delete(t.others, dir)
		f, err := s.readFolder(dir, name, t)
		if err != nil {
			return nil, err
		}
		t.folders = append(t.folders, f)
	}
	if err := s.readBox(address, t); err != nil {
		return nil, err
	}
	return t, nil
}

// isFolder reports whether a directory is a folder. What cannot be told is an error: a folder that is taken for missing
// would be made anew, with another UID list.
func (s *Store) isFolder(dir string) (bool, error) {
	st, err := os.Stat(s.files.at(filepath.Join(dir, "cur")))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for folder: %w", err)
	}
	return st.IsDir(), nil
}

// readBox reads the files of a mailbox that belong to none of its folders.
func (s *Store) readBox(address string, t *tree) error {
	text, err := s.readFile(filepath.Join(address, validityFile))
	if err != nil {
		return err
	}
	counter, changed, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if n, err := strconv.ParseUint(counter, 10, 32); err == nil {
		t.counter = uint32(n)
	}
	if n, err := strconv.ParseUint(changed, 10, 64); err == nil {
		t.changed = n
	}
	for _, f := range t.folders {
		if f.list != nil {
			t.counter = max(t.counter, f.list.Validity)
		}
	}
	text, err = s.readFile(filepath.Join(address, maildir.SubscriptionsFile))
	t.subs = maildir.ParseSubscriptions(text)
	return err
}

// readFile reads a file; one that is not there is empty.
func (s *Store) readFile(path string) ([]byte, error) {
	text, err := os.ReadFile(s.files.at(path))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

func (s *Store) readFolder(dir, name string, t *tree) (*treeFolder, error) {
	f := &treeFolder{dir: dir, name: name, files: map[string][]treeFile{}}
	path := filepath.Join(dir, maildir.UIDListFile)
	text, err := os.ReadFile(s.files.at(path))
	f.found.uids = textSum(text)
	if err == nil {
		list, torn, perr := maildir.ParseUIDList(text)
		if perr == nil {
			f.list, f.torn = &list, torn
		} else {
			t.damaged = append(t.damaged, oddFile{path, "UID list is damaged: " + perr.Error()})
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read UID list: %w", err)
	}
	path = filepath.Join(dir, maildir.KeywordsFile)
	if text, err = s.readFile(path); err != nil {
		return nil, fmt.Errorf("read keywords: %w", err)
	}
	f.found.keywords = textSum(text)
	if f.keywords, err = maildir.ParseKeywords(text); err != nil {
		t.damaged = append(t.damaged, oddFile{path, "keywords file is damaged: " + err.Error()})
	}
	if text, err = s.readFile(filepath.Join(dir, indexFile)); err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	f.index, f.changed, f.lists = parseIndex(text)
	if s.replica != nil {
		if err := s.finishLists(f); err != nil {
			return nil, err
		}
	}
	return f, s.scan(f)
}

// scan finds the message files by their base names.
func (s *Store) scan(f *treeFolder) error {
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(s.files.at(filepath.Join(f.dir, sub)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("scan folder: %w", err)
		}
		for _, e := range entries {
			file := filepath.Join(sub, e.Name())
			name, ok := maildir.ParseName(e.Name())
			switch {
			case !e.Type().IsRegular():
				f.odd = append(f.odd, oddFile{filepath.Join(f.dir, file), "is no file"})
			case !ok || !maildir.Readable(name.Base):
				f.odd = append(f.odd, oddFile{filepath.Join(f.dir, file), "has a name that no message can have"})
			default:
				f.files[name.Base] = append(f.files[name.Base], treeFile{file, name.Flags})
			}
		}
	}
	return nil
}

// info gives what is known of a message's file beyond its name. Files that the index does not have are looked at.
func (s *Store) info(t *tree, f *treeFolder, base, path string) (fileInfo, error) {
	if i, ok := f.index[base]; ok {
		return i, nil
	}
	t.looked++
	st, err := os.Stat(s.files.at(path))
	if err != nil {
		return fileInfo{}, fmt.Errorf("look at message: %w", err)
	}
	i := fileInfo{size: st.Size(), wide: -1, date: time.Unix(st.ModTime().Unix(), 0)}
	if size, wide := maildir.Sizes(base); size == i.size && wide >= size {
		i.wide = wide
		return i, nil
	}
	text, err := os.ReadFile(s.files.at(path))
	if err != nil {
		return fileInfo{}, fmt.Errorf("look at message: %w", err)
	}
	lines := &lineCounter{}
	if _, err := lines.Write(text); err != nil {
		return fileInfo{}, err
	}
	i.wide = i.size + lines.bare
	return i, nil
}
