package maildir

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// KeywordsFile is the name of the file that tells what a folder's lower-case letters mean.
const KeywordsFile = "dovecot-keywords"

// MaxKeywords is how many keywords a folder may have: there are no more letters.
const MaxKeywords = 26

// ErrKeywords says that a text is no keywords file.
var ErrKeywords = errors.New("maildir: no keywords file")

// ErrKeywordName says that a keyword cannot have that name.
var ErrKeywordName = errors.New("maildir: no name for a keyword")

// letters are the flags that stand for keywords.
const letters = Flags(1<<MaxKeywords-1) << 26

// System gives the flags without those of keywords.
func (f Flags) System() Flags { return f &^ letters }

// Letter gives the flag of a folder's keyword by its place in the list.
func Letter(i int) Flags { return 1 << (26 + i) }

// CheckKeyword refuses what is no atom, or what IMAP would read as a system flag (RFC 9051 section 9, flag-keyword).
func CheckKeyword(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`(){%*"\]`, r) }
	if name == "" || len(name) > 200 || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%w: %q", ErrKeywordName, name)
	}
	return nil
}

// ParseKeywords reads a keywords file, lines such as "0 $Forwarded". Places that it leaves out are empty strings.
func ParseKeywords(text []byte) ([]string, error) {
	var list []string
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		num, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		i, err := strconv.Atoi(num)
		if !ok || err != nil || i < 0 || i >= MaxKeywords || CheckKeyword(name) != nil {
			return nil, fmt.Errorf("%w: line %d", ErrKeywords, n)
		}
		for len(list) <= i {
			list = append(list, "")
		}
		if list[i] != "" {
			return nil, fmt.Errorf("%w: line %d", ErrKeywords, n)
		}
		list[i] = name
	}
	return list, nil
}

// KeywordsBytes gives a list as a file.
func KeywordsBytes(list []string) []byte {
	var b bytes.Buffer
	for i, name := range list {
		if name != "" {
			fmt.Fprintf(&b, "%d %s\n", i, name)
		}
	}
	return b.Bytes()
}
