package link

import (
	"strings"
	"unicode/utf8"
)

// Path writes an address as it stands in MAIL, RCPT and Return-Path (RFC 5321 section 4.1.2), without its angle brackets.
// The server library takes the quotes off a local part; one that needs them gets them back, since what is in it would
// otherwise end the path early.
func Path(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 || isDotString(address[:at]) {
		return address
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(address[:at]) + `"` + address[at:]
}

// isDotString reports whether a local part needs no quotes. Other characters than ASCII do not (RFC 6531 section 3.3).
func isDotString(local string) bool {
	for part := range strings.SplitSeq(local, ".") {
		if part == "" {
			return false
		}
	}
	return !strings.ContainsFunc(local, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>[]:;\,"@`, r)
	})
}

// IsPath reports whether an address can be written as a path: it is UTF-8 without control characters, and its domain is
// a name or an address literal. An empty address is none.
func IsPath(address string) bool {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || at == len(address)-1 || !utf8.ValidString(address) {
		return false
	}
	if strings.ContainsFunc(address[:at], func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return false
	}
	return !strings.ContainsFunc(address[at+1:], func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`()<>\,;"`, r)
	})
}

// IsASCII reports whether an address can be written without SMTPUTF8.
func IsASCII(address string) bool {
	return !strings.ContainsFunc(address, func(r rune) bool { return r > '~' })
}
