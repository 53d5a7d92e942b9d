package chaos

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Tree is what one replica of a LUN holds.
type Tree struct {
	Name    string
	Folders map[FolderName]Folder
}

// FolderName names a folder of a mailbox.
type FolderName struct{ Mailbox, Folder string }

// String implements fmt.Stringer.
func (n FolderName) String() string { return n.Mailbox + " " + n.Folder }

// Folder is a folder as a replica holds it.
type Folder struct {
	Validity, Next uint32
	Messages       []Stored
}

// Stored is a message as a replica holds it.
type Stored struct {
	FolderName
	Place
	ID     string
	Flags  string // sorted, by their IMAP names
	Modseq uint64
	Sum    string // SHA-256 of the file, in hexadecimal digits
	Size   int

	Damaged string // why the file is not what was sent; empty when it is
}

func (m Stored) where() string { return sprintPlace(m.Mailbox, m.Folder, m.Place) }

// String implements fmt.Stringer; the zero Stored is no message.
func (m Stored) String() string {
	if m.UID == 0 {
		return "not there"
	}
	return fmt.Sprintf("%s MODSEQ %d (%s) SHA-256 %.12s…", m.ID, m.Modseq, m.Flags, m.Sum)
}

func (t Tree) messages() (all []Stored) {
	for _, f := range t.Folders {
		all = append(all, f.Messages...)
	}
	return all
}

func (f Folder) byUID() map[uint32]Stored {
	all := map[uint32]Stored{}
	for _, m := range f.Messages {
		all[m.UID] = m
	}
	return all
}

// ReadTree reads what a store whose process has ended cleanly keeps below a directory, as a stranger would: lists, file names and
// files. It says of each message whether it is the one that was sent (see Seal).
func ReadTree(name, root string) (Tree, error) {
	t := Tree{Name: name, Folders: map[FolderName]Folder{}}
	mailboxes, err := os.ReadDir(root)
	if err != nil {
		return t, fmt.Errorf("read the tree of %s: %w", name, err)
	}
	for _, mailbox := range mailboxes {
		if !mailbox.IsDir() || strings.HasPrefix(mailbox.Name(), ".") || !strings.Contains(mailbox.Name(), "@") {
			continue // a directory of the store's own
		}
		at := filepath.Join(root, mailbox.Name())
		folders, err := os.ReadDir(at)
		if err != nil {
			return t, fmt.Errorf("read the tree of %s: %w", name, err)
		}
		for _, dir := range append([]fs.DirEntry{nil}, folders...) { // INBOX is the mailbox's own directory
			which, path := FolderName{mailbox.Name(), "INBOX"}, at
			if dir != nil {
				if !dir.IsDir() || !strings.HasPrefix(dir.Name(), ".") {
					continue
				}
				which.Folder, path = dir.Name()[1:], filepath.Join(at, dir.Name())
			}
			f, err := readFolder(which, path)
			if err != nil {
				return t, fmt.Errorf("read %s at %s: %w", which, name, err)
			}
			t.Folders[which] = f
		}
	}
	return t, nil
}

// readFolder reads a folder's lists and its messages. A message without a file is damaged.
func readFolder(which FolderName, path string) (f Folder, err error) {
	text, err := os.ReadFile(filepath.Join(path, "dovecot-uidlist"))
	if err != nil {
		return f, err
	}
	list, err := parseUIDList(text)
	if err != nil {
		return f, err
	}
	index, err := os.ReadFile(filepath.Join(path, "anycastle-index"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	known := parseIndex(index)
	words, err := os.ReadFile(filepath.Join(path, "dovecot-keywords"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	keywords := parseKeywords(words)
	files := map[string]string{} // by base name
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(path, sub))
		if err != nil {
			return f, err
		}
		for _, e := range entries {
			base, _, _ := strings.Cut(e.Name(), ":")
			files[base] = filepath.Join(sub, e.Name())
		}
	}
	f.Validity, f.Next = list.validity, list.next
	for _, e := range list.entries {
		m := Stored{FolderName: which, Place: Place{list.validity, e.uid}, Modseq: known[e.base].modseq}
		if file, ok := files[e.base]; ok {
			_, letters, _ := strings.Cut(file, ":2,")
			m.Flags = flagNames(letters, keywords)
			if err := m.read(filepath.Join(path, file)); err != nil {
				return f, err
			}
			if want := known[e.base].sum; m.Damaged == "" && want != "" && want != "-" && want != m.Sum {
				m.Damaged = fmt.Sprintf("the file's SHA-256 is %.12s… and the index has %.12s…", m.Sum, want)
			}
			delete(files, e.base)
		} else {
			m.Damaged = "it has no file: " + e.base
		}
		f.Messages = append(f.Messages, m)
	}
	for base := range files {
		f.Messages = append(f.Messages, Stored{FolderName: which, Damaged: "a file that no list knows: " + base})
	}
	return f, nil
}

func (m *Stored) read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	m.Sum, m.Size = hex.EncodeToString(sum[:]), len(text)
	m.ID, err = Open(text)
	if err != nil {
		m.Damaged = err.Error()
	}
	return nil
}

const sumField = "X-Body-SHA256: "

// Seal makes a message whose reader can tell whether it is whole.
func Seal(id, from, to, body string) []byte {
	sum := sha256.Sum256([]byte(body))
	return fmt.Appendf(nil, "From: %s\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: %s\r\n%s%x\r\n\r\n%s", from, to, id, id, sumField, sum, body)
}

// Open gives the Message-ID of a message that Seal made, whatever servers put before it. The error says why it is not whole.
func Open(text []byte) (id string, err error) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	head, body, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok {
		return "", errors.New("it has no body")
	}
	var want string
	for line := range strings.SplitSeq(string(head), "\n") {
		if v, ok := strings.CutPrefix(line, "Message-ID: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(line, sumField); ok {
			want = v
		}
	}
	sum := sha256.Sum256(bytes.ReplaceAll(body, []byte("\n"), []byte("\r\n")))
	if got := hex.EncodeToString(sum[:]); got != want {
		return id, fmt.Errorf("the body's SHA-256 is %.12s… and not %.12s…", got, want)
	}
	return id, nil
}

// flagNames gives the IMAP names of Maildir's letters.
func flagNames(letters string, keywords map[byte]string) string {
	var names []string
	system := map[byte]string{'D': `\Draft`, 'F': `\Flagged`, 'R': `\Answered`, 'S': `\Seen`, 'T': `\Deleted`}
	for _, c := range []byte(letters) {
		if name, ok := system[c]; ok {
			names = append(names, name)
		} else if name, ok := keywords[c]; ok {
			names = append(names, name)
		} else {
			names = append(names, "?"+string(c))
		}
	}
	return JoinFlags(names)
}

// JoinFlags gives flags the one spelling that is compared.
func JoinFlags(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}
