package directory

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Bounds of an address in bytes (RFC 5321 section 4.5.3.1; 254 for the whole is what a path leaves). A mailbox's directory
// has the address as its name, which may have 255.
const (
	maxLocal   = 64
	maxAddress = 254
)

var (
	// An address is also a folder name, so it holds no slash and starts with no dot.
	localForm  = regexp.MustCompile("^[a-z0-9!#$%&'*+=?^_`{|}~-][a-z0-9.!#$%&'*+=?^_`{|}~-]*$")
	domainForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
)

// Normalize gives the one form of an address by which it is compared, and by which its mailbox's directory is called: the
// local part in lower case and in Unicode's NFC (RFC 6532 section 3.1), the domain as A-labels (RFC 5891). ok is false for
// what is no address of a mailbox: so are quoted local parts, address literals, and what no directory may be called.
func Normalize(address string) (normal string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || len(address) > 4*maxAddress {
		return "", false
	}
	local, ok := normalLocal(address[:at])
	if !ok {
		return "", false
	}
	domain, ok := normalDomain(address[at+1:])
	if !ok || len(local)+1+len(domain) > maxAddress {
		return "", false
	}
	return local + "@" + domain, true
}

func normalLocal(local string) (string, bool) {
	if isASCII(local) {
		local = strings.ToLower(local)
		return local, len(local) <= maxLocal && localForm.MatchString(local)
	}
	if !utf8.ValidString(local) {
		return "", false
	}
	local = norm.NFC.String(strings.ToLower(norm.NFC.String(local)))
	for i, r := range local {
		switch {
		case r >= utf8.RuneSelf && !unicode.In(r, unicode.L, unicode.M, unicode.N), i == 0 && unicode.In(r, unicode.M):
			return "", false // no sign that a reader does not see, or that turns the text around
		case r < utf8.RuneSelf && !localForm.MatchString("x"+string(r)), i == 0 && r == '.':
			return "", false
		}
	}
	return local, len(local) <= maxLocal
}

// normalDomain gives the A-labels of a domain in lower case.
func normalDomain(domain string) (string, bool) {
	domain = strings.ToLower(domain)
	if !isASCII(domain) || strings.Contains(domain, "xn--") {
		var err error
		if domain, err = idna.Lookup.ToASCII(domain); err != nil {
			return "", false
		}
	}
	return domain, domainForm.MatchString(domain)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// domainOf gives the domain of a normal address.
func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// untagged gives the address of which a normal address is a subaddress (RFC 5233): alice+tag@ is one of alice@.
func untagged(address string) (base string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	local, _, ok := strings.Cut(address[:at], "+")
	if !ok || local == "" {
		return "", false
	}
	return local + address[at:], true
}
