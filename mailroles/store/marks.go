package store

import (
	"fmt"
	"path/filepath"
	"slices"

	"anycastle/mailroles/maildir"
)

// Marks are what a client may change of a message.
type Marks struct {
	Flags    maildir.Flags // capital letters only
	Keywords []string      // in the folder's order, each once; not to be altered
}

// Equal reports whether the marks are the same.
func (m Marks) Equal(n Marks) bool { return m.Flags == n.Flags && slices.Equal(m.Keywords, n.Keywords) }

// learn gives letters to the keywords that a list does not have yet: to all of them, or to none.
func learn(list, keywords []string) ([]string, error) {
	grown := list
	for _, k := range keywords {
		if slices.Contains(grown, k) {
			continue
		}
		if err := maildir.CheckKeyword(k); err != nil {
			return list, err
		}
		grown = slices.Clone(grown)
		if free := slices.Index(grown, ""); free >= 0 {
			grown[free] = k
		} else if grown = append(grown, k); len(grown) > maildir.MaxKeywords {
			return list, fmt.Errorf("%w: %q", ErrKeywords, k)
		}
	}
	return grown, nil
}

// know learns the keywords of an operation. Who proposed it has seen to it that there is room.
func (c *contents) know(keywords []string) {
	if list, err := learn(c.keywords, keywords); err == nil {
		c.keywords = list
	}
}

// tidy gives marks their one spelling. The folder knows the keywords.
func (c *contents) tidy(m Marks) Marks { return tidy(c.keywords, m) }

func tidy(known []string, m Marks) Marks {
	t := Marks{Flags: m.Flags.System()}
	if len(m.Keywords) == 0 {
		return t
	}
	for _, k := range known {
		if k != "" && slices.Contains(m.Keywords, k) {
			t.Keywords = append(t.Keywords, k)
		}
	}
	return t
}

// read gives the marks that letters stand for. A letter without a keyword gets one, as with Dovecot.
func (c *contents) read(letters maildir.Flags) Marks {
	m := Marks{Flags: letters.System()}
	for i := range maildir.MaxKeywords {
		if letters&maildir.Letter(i) == 0 {
			continue
		}
		for len(c.keywords) <= i {
			c.keywords = append(c.keywords, "")
		}
		if c.keywords[i] == "" {
			name := fmt.Sprintf("unknown-%d", i)
			for slices.Contains(c.keywords, name) {
				name += "-"
			}
			c.keywords[i] = name
		}
		m.Keywords = append(m.Keywords, c.keywords[i])
	}
	return m
}

// inCur gives the file name that a message has once it has been seen to.
func (c *contents) inCur(m *Message) string {
	name := maildir.Name{Base: m.base, Flags: m.Flags}
	for i, k := range c.keywords {
		if k != "" && slices.Contains(m.Keywords, k) {
			name.Flags |= maildir.Letter(i)
		}
	}
	return filepath.Join("cur", name.String())
}

// wanted gives the file name that a message should have: one without marks may stay in new.
func (c *contents) wanted(m *Message) string {
	if m.file == filepath.Join("new", m.base) && m.Marks.Equal(Marks{}) {
		return m.file
	}
	return c.inCur(m)
}
