package maildir

import "strings"

// SubscriptionsFile is the name of a mailbox's list of subscriptions.
const SubscriptionsFile = "subscriptions"

// subscriptionsHead begins a file of Dovecot's version 2, in which tabs part the levels of a name.
const subscriptionsHead = "V\t2\n\n"

// ParseSubscriptions reads the names of a subscriptions file of either version. Lines that are no folder are passed
// over.
func ParseSubscriptions(text []byte) []string {
	body, second := strings.CutPrefix(string(text), subscriptionsHead)
	var names []string
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if second {
			line = strings.ReplaceAll(line, "\t", string(Delim))
		}
		if line == Inbox {
			names = append(names, line)
		} else if name, ok := FolderName("." + line); ok {
			names = append(names, name)
		}
	}
	return names
}

// SubscriptionsBytes gives names as a file of version 1, which every Dovecot reads. Names that no folder can have are
// left out.
func SubscriptionsBytes(names []string) []byte {
	var b strings.Builder
	for _, n := range names {
		dir, err := FolderDir(n)
		if err != nil {
			continue
		}
		if dir == "" {
			dir = "." + Inbox
		}
		b.WriteString(dir[1:] + "\n")
	}
	return []byte(b.String())
}
