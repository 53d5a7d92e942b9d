package maildir

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Inbox is the folder that every mailbox has. It is the mailbox's own directory.
const Inbox = "INBOX"

// Delim parts the levels of a folder name, for clients as on disk.
const Delim = '.'

// ErrFolderName says that a folder cannot have that name.
var ErrFolderName = errors.New("maildir: no name for a folder")

// maxFolderDir keeps a folder's directory, and what is renamed from it, within a file name.
const maxFolderDir = 200

// CleanFolder gives a folder name its one spelling: INBOX in any case is Inbox, and a trailing delimiter goes.
func CleanFolder(name string) string {
	name = strings.TrimSuffix(name, string(Delim))
	if strings.EqualFold(name, Inbox) {
		return Inbox
	}
	return name
}

// FolderDir gives the directory of a folder within its mailbox: "" for Inbox, ".A.B" for A.B. Other characters than
// printable ASCII are in modified UTF-7 (RFC 3501 section 5.1.3).
func FolderDir(name string) (string, error) {
	name = CleanFolder(name)
	if name == Inbox {
		return "", nil
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, badInFolder) {
		return "", fmt.Errorf("%w: %q", ErrFolderName, name)
	}
	for level := range strings.SplitSeq(name, string(Delim)) {
		if level == "" {
			return "", fmt.Errorf("%w: %q has an empty level", ErrFolderName, name)
		}
	}
	dir := "." + encodeUTF7(name)
	if len(dir) > maxFolderDir {
		return "", fmt.Errorf("%w: too long", ErrFolderName)
	}
	return dir, nil
}

// FolderName is the inverse of FolderDir; ok is false for directories that are no folder.
func FolderName(dir string) (name string, ok bool) {
	if !strings.HasPrefix(dir, ".") {
		return "", false
	}
	name, err := decodeUTF7(dir[1:])
	if err != nil {
		return "", false
	}
	back, err := FolderDir(name)
	return name, err == nil && back == dir
}

func badInFolder(r rune) bool { return r < ' ' || r == 0x7f || r == '/' || r == '*' || r == '%' }

var utf7Base64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding).Strict()

func isDirect(r rune) bool { return r >= ' ' && r <= '~' }

func encodeUTF7(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		end := strings.IndexFunc(s, isDirect)
		if end < 0 {
			end = len(s)
		}
		if end > 0 {
			var wide []byte
			for _, u := range utf16.Encode([]rune(s[:end])) {
				wide = append(wide, byte(u>>8), byte(u))
			}
			b.WriteString("&" + utf7Base64.EncodeToString(wide) + "-")
			s = s[end:]
			continue
		}
		b.WriteByte(s[0])
		if s[0] == '&' {
			b.WriteByte('-')
		}
		s = s[1:]
	}
	return b.String()
}

func decodeUTF7(s string) (string, error) {
	var b strings.Builder
	for len(s) > 0 {
		if !isDirect(rune(s[0])) {
			return "", ErrFolderName
		}
		if s[0] != '&' {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		enc, rest, ok := strings.Cut(s[1:], "-")
		if !ok {
			return "", ErrFolderName
		}
		s = rest
		if enc == "" {
			b.WriteByte('&')
			continue
		}
		wide, err := utf7Base64.DecodeString(enc)
		if err != nil || len(wide)%2 != 0 {
			return "", ErrFolderName
		}
		units := make([]uint16, len(wide)/2)
		for i := range units {
			units[i] = uint16(wide[2*i])<<8 | uint16(wide[2*i+1])
		}
		b.WriteString(string(utf16.Decode(units)))
	}
	return b.String(), nil
}
