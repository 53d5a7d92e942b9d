package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"anycastle/internal/wholefile"
	"anycastle/mailroles/maildir"
)

// Marks are what a client may change of a message.
type Marks struct {
	Flags    maildir.Flags // capital letters only
	Keywords []string      // in the folder's order, each once; not to be altered
}

// Equal reports whether the marks are the same.
func (m Marks) Equal(n Marks) bool { return m.Flags == n.Flags && slices.Equal(m.Keywords, n.Keywords) }

// know gives letters to keywords that the folder does not know, durably: to all of them, or to none.
func (f *Folder) know(keywords []string) error {
	list := slices.Clone(f.keywords)
	for _, k := range keywords {
		if slices.Contains(list, k) {
			continue
		}
		if err := maildir.CheckKeyword(k); err != nil {
			return err
		}
		if free := slices.Index(list, ""); free >= 0 {
			list[free] = k
		} else if list = append(list, k); len(list) > maildir.MaxKeywords {
			return fmt.Errorf("%w: %q", ErrKeywords, k)
		}
	}
	if slices.Equal(list, f.keywords) {
		return nil
	}
	if err := wholefile.PutDurably(filepath.Join(f.dir, maildir.KeywordsFile), maildir.KeywordsBytes(list)); err != nil {
		return fmt.Errorf("write keywords: %w", err)
	}
	f.keywords = list
	return nil
}

// tidy gives marks their one spelling. The folder knows the keywords.
func (f *Folder) tidy(m Marks) Marks {
	t := Marks{Flags: m.Flags.System()}
	for _, k := range f.keywords {
		if k != "" && slices.Contains(m.Keywords, k) {
			t.Keywords = append(t.Keywords, k)
		}
	}
	return t
}

// marks reads letters. Those that have no meaning are lost at the next change.
func (f *Folder) marks(letters maildir.Flags) Marks {
	m := Marks{Flags: letters.System()}
	for i, k := range f.keywords {
		if k != "" && letters&maildir.Letter(i) != 0 {
			m.Keywords = append(m.Keywords, k)
		}
	}
	return m
}

// inCur gives the file name that a message has once it has been seen to.
func (f *Folder) inCur(m *Message) string {
	name := maildir.Name{Base: m.base, Flags: m.Flags}
	for i, k := range f.keywords {
		if k != "" && slices.Contains(m.Keywords, k) {
			name.Flags |= maildir.Letter(i)
		}
	}
	return filepath.Join("cur", name.String())
}

func (f *Folder) readKeywords() error {
	text, err := os.ReadFile(filepath.Join(f.dir, maildir.KeywordsFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read keywords: %w", err)
	}
	f.keywords, err = maildir.ParseKeywords(text)
	if err != nil {
		return fmt.Errorf("read keywords of %s: %w", f.name, err)
	}
	return nil
}
