package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"anycastle/mailroles/maildir"
)

// listSums are the sums of a folder's UID list and of its keywords. The index has those of the lists that were written
// with it: a list that lost its end is a list all the same.
type listSums struct{ uids, keywords uint32 }

// textSum is the CRC-32C of a text.
func textSum(text []byte) uint32 { return crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) }

// summed notes the sum of a text when it is made.
func summed(to *uint32, text func() []byte) func() []byte {
	return func() []byte {
		b := text()
		*to = textSum(b)
		return b
	}
}

// finishLists ends what a crash interrupted, when a checkpoint put the lists of a folder into place: the UID list, the
// keywords and the index, in this order.
func (s *Store) finishLists(f *treeFolder) error {
	if f.lists == nil || f.found == *f.lists {
		return nil
	}
	next := filepath.Join(f.dir, indexFile+".new")
	text, err := s.readFile(next)
	if err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	index, changed, lists := parseIndex(text)
	if lists == nil || lists.uids != f.found.uids {
		return nil
	}
	if lists.keywords != f.found.keywords {
		words := filepath.Join(f.dir, maildir.KeywordsFile)
		text, err := s.readFile(words + ".new")
		if err != nil {
			return fmt.Errorf("read keywords: %w", err)
		}
		if f.found.keywords != f.lists.keywords || textSum(text) != lists.keywords {
			return nil
		}
		if f.keywords, err = maildir.ParseKeywords(text); err != nil {
			return fmt.Errorf("read keywords: %w", err)
		}
		if err := s.files.rename(words+".new", words); err != nil {
			return fmt.Errorf("put keywords into place: %w", err)
		}
	}
	if err := s.files.rename(next, filepath.Join(f.dir, indexFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put index into place: %w", err)
	}
	f.index, f.changed, f.lists, f.found = index, changed, lists, *lists
	return nil
}

// listsWhy says why the lists of a folder are not those that its index was written with; empty: they are.
func (f *treeFolder) listsWhy() string {
	switch {
	case f.lists == nil:
		return ""
	case f.found.uids != f.lists.uids:
		return "UID list is not what was written"
	case f.found.keywords != f.lists.keywords:
		return "keywords are not what was written"
	}
	return ""
}
