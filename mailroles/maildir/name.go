package maildir

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Flags is a set of Maildir flag letters: A to Z for the system's, a to z for a folder's keywords.
type Flags uint64

// The letters that IMAP's system flags have in file names.
const (
	Draft    = Flags(1 << ('D' - 'A'))
	Flagged  = Flags(1 << ('F' - 'A'))
	Answered = Flags(1 << ('R' - 'A'))
	Seen     = Flags(1 << ('S' - 'A'))
	Deleted  = Flags(1 << ('T' - 'A'))
)

// ParseFlags reads letters; anything that is no ASCII letter is passed over.
func ParseFlags(letters string) Flags {
	var f Flags
	for _, c := range []byte(letters) {
		switch {
		case c >= 'A' && c <= 'Z':
			f |= 1 << (c - 'A')
		case c >= 'a' && c <= 'z':
			f |= 1 << (26 + c - 'a')
		}
	}
	return f
}

// String gives the letters in the order that Maildir asks for.
func (f Flags) String() string {
	var b strings.Builder
	for rest := uint64(f); rest != 0; rest &= rest - 1 {
		n := bits.TrailingZeros64(rest)
		if n < 26 {
			b.WriteByte(byte('A' + n))
		} else {
			b.WriteByte(byte('a' + n - 26))
		}
	}
	return b.String()
}

// Name is a message's file name.
type Name struct {
	Base  string // unique and lasting; everything before the colon
	Flags Flags
}

// ParseName splits a file name. Every name that a Maildir may hold has a parse, since each may be mail; ok is false
// for those that start with a dot, which are none.
func ParseName(file string) (n Name, ok bool) {
	if file == "" || file[0] == '.' {
		return Name{}, false
	}
	base, info, _ := strings.Cut(file, ":")
	letters, _ := strings.CutPrefix(info, "2,")
	return Name{Base: base, Flags: ParseFlags(letters)}, true
}

// String gives the name that the file has in cur.
func (n Name) String() string { return n.Base + ":2," + n.Flags.String() }

// Stamp is what makes a base name unique.
type Stamp struct {
	At       time.Time
	PID, Seq uint64
	Host     string
	Tx       string // transaction id of the delivery, 32 hexadecimal digits, or empty
}

// Unique builds what makes a base name unique; the sizes go behind it.
func (s Stamp) Unique() string {
	tx := s.Tx
	if tx != "" {
		tx = "T" + tx
	}
	host := strings.NewReplacer("/", "_", ":", "_", ",", "_").Replace(s.Host)
	return fmt.Sprintf("%d.M%dP%dQ%d%s.%s", s.At.Unix(), s.At.Nanosecond()/1000, s.PID, s.Seq, tx, host)
}

// Base builds a base name from a unique part, the size in bytes, and the size that the message has when all its lines
// end in CRLF.
func Base(unique string, size, wide int64) string {
	return fmt.Sprintf("%s,S=%d,W=%d", unique, size, wide)
}

// Unique gives the part of a base name that Base had for that.
func Unique(base string) string {
	unique, _, _ := strings.Cut(base, ",")
	return unique
}

// Sizes reads the sizes from a base name; each is -1 when it is not there.
func Sizes(base string) (size, wide int64) {
	_, rest, _ := strings.Cut(base, ",")
	size, wide = -1, -1
	for field := range strings.SplitSeq(rest, ",") {
		key, num, _ := strings.Cut(field, "=")
		n, err := strconv.ParseInt(num, 10, 64)
		if err != nil || n < 0 {
			continue
		}
		switch key {
		case "S":
			size = n
		case "W":
			wide = n
		}
	}
	return size, wide
}

// Readable reports whether a base name can stand in a UID list and in ours, and has room for flags behind it.
func Readable(base string) bool {
	return base != "" && len(base) <= 255-len(":2,")-52 && utf8.ValidString(base) && !strings.ContainsFunc(base, unicode.IsControl)
}

// Delivered reads back the time and the transaction id from a base name that Base built; ok is false for names
// without an id and for those of others.
func Delivered(base string) (at time.Time, tx string, ok bool) {
	sec, rest, found := strings.Cut(base, ".")
	if !found {
		return time.Time{}, "", false
	}
	middle, _, _ := strings.Cut(rest, ".")
	_, tx, found = strings.Cut(middle, "T")
	if !found || !isTx(tx) {
		return time.Time{}, "", false
	}
	unix, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, "", false
	}
	return time.Unix(unix, 0), tx, true
}

// isTx reports whether s is 32 lower-case hexadecimal digits.
func isTx(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}
