package imapd

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"anycastle/mailroles/maildir"
	"anycastle/mailroles/store"
)

// recentFlag is not a flag of IMAP4rev2.
const recentFlag imap.Flag = `\Recent`

// flagTable pairs IMAP's system flags with Maildir's letters.
var flagTable = []struct {
	flag   imap.Flag
	letter maildir.Flags
}{
	{imap.FlagAnswered, maildir.Answered},
	{imap.FlagFlagged, maildir.Flagged},
	{imap.FlagDeleted, maildir.Deleted},
	{imap.FlagSeen, maildir.Seen},
	{imap.FlagDraft, maildir.Draft},
}

func equalFold(a, b imap.Flag) bool { return strings.EqualFold(string(a), string(b)) }

// folderFlags lists the flags that a folder's messages may have.
func folderFlags(keywords []string) []imap.Flag {
	var list []imap.Flag
	for _, e := range flagTable {
		list = append(list, e.flag)
	}
	for _, k := range keywords {
		list = append(list, imap.Flag(k))
	}
	return list
}

// permanentFlags lists those that a client may change, with \* while there is room for new ones.
func permanentFlags(keywords []string) []imap.Flag {
	list := folderFlags(keywords)
	if len(keywords) < maildir.MaxKeywords {
		list = append(list, imap.FlagWildcard)
	}
	return list
}

func flagList(list []imap.Flag) string {
	var words []string
	for _, f := range list {
		words = append(words, string(f))
	}
	return "(" + strings.Join(words, " ") + ")"
}

func toIMAP(m store.Marks) []imap.Flag {
	list := make([]imap.Flag, 0, len(flagTable)+len(m.Keywords))
	for _, e := range flagTable {
		if m.Flags&e.letter != 0 {
			list = append(list, e.flag)
		}
	}
	for _, k := range m.Keywords {
		list = append(list, imap.Flag(k))
	}
	return list
}

// fromIMAP gives the marks of a client's flags. Keywords that the folder knows get its spelling. System flags that are
// not permanent here are passed over, as PERMANENTFLAGS has told the client.
func fromIMAP(list []imap.Flag, known []string) store.Marks {
	var m store.Marks
	for _, flag := range list {
		if !strings.HasPrefix(string(flag), `\`) {
			if k := spelling(string(flag), known); !slices.Contains(m.Keywords, k) {
				m.Keywords = append(m.Keywords, k)
				known = append(slices.Clip(known), k)
			}
			continue
		}
		for _, e := range flagTable {
			if equalFold(flag, e.flag) {
				m.Flags |= e.letter
			}
		}
	}
	return m
}

// spelling gives a keyword as the folder spells it: to clients, case does not matter.
func spelling(keyword string, known []string) string {
	for _, k := range known {
		if strings.EqualFold(k, keyword) {
			return k
		}
	}
	return keyword
}

// changed gives what STORE makes of a message's marks.
func changed(op imap.StoreFlagsOp, old, given store.Marks) store.Marks {
	system := fromIMAP(folderFlags(nil), nil).Flags
	var m store.Marks
	switch op {
	case imap.StoreFlagsAdd:
		m.Flags = old.Flags | given.Flags
		m.Keywords = slices.Concat(old.Keywords, given.Keywords)
	case imap.StoreFlagsDel:
		m.Flags = old.Flags &^ given.Flags
		m.Keywords = slices.DeleteFunc(slices.Clone(old.Keywords), func(k string) bool { return slices.Contains(given.Keywords, k) })
	default:
		m.Flags = old.Flags&^system | given.Flags // letters that IMAP does not show here are not touched
		m.Keywords = given.Keywords
	}
	return m
}

// sameMarks compares marks whose keywords may be in any order, and more than once.
func sameMarks(a, b store.Marks) bool {
	within := func(a, b []string) bool {
		return !slices.ContainsFunc(a, func(k string) bool { return !slices.Contains(b, k) })
	}
	return a.Flags == b.Flags && within(a.Keywords, b.Keywords) && within(b.Keywords, a.Keywords)
}
