package queue

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxAddress is the longest address in bytes (RFC 5321 section 4.5.3.1.3, without the brackets).
const maxAddress = 254

// destinationOf gives where mail for an address goes: a domain in lower case and ASCII, or an address literal such as
// [192.0.2.1]. The local part is without quotes, so it may be any text but control characters. ok is false for what is no
// address (RFC 5321 section 4.1.2, RFC 6531 section 3.3).
func destinationOf(address string) (destination string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || len(address) > maxAddress || !utf8.ValidString(address) || strings.ContainsFunc(address, isControl) {
		return "", false
	}
	domain := address[at+1:]
	if _, ok := literal(domain); ok {
		return strings.ToLower(domain), true
	}
	domain = strings.ToLower(domain)
	if !isASCII(domain) {
		var err error
		if domain, err = idna.Lookup.ToASCII(domain); err != nil {
			return "", false
		}
	}
	return domain, isDomain(domain)
}

func isDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", r) }) {
			return false
		}
	}
	return true
}

// literal gives the address of a literal such as [192.0.2.1] or [IPv6:2001:db8::1].
func literal(domain string) (netip.Addr, bool) {
	if len(domain) < 2 || domain[0] != '[' || domain[len(domain)-1] != ']' {
		return netip.Addr{}, false
	}
	inner := domain[1 : len(domain)-1]
	six := len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:")
	if six {
		inner = inner[5:]
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || addr.Is6() != six || addr.Zone() != "" {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}
