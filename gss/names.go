package gss

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// canonical gives a name in lower case, with a dot at its end, and with no more escapes than it needs, so that two
// spellings of one name are one map key.
func canonical(name string) (string, error) {
	if name == "" {
		return "", errors.New("missing; give a domain name")
	}
	if bad := badEscape(name); bad != "" {
		return "", fmt.Errorf("%q is no domain name: after a backslash come three digits up to 255, or another character, not %q", name, bad)
	}
	wire := make([]byte, 256)
	end, err := dns.PackDomainName(dns.Fqdn(name), wire, 0, nil, false)
	if err != nil || end < 2 {
		return "", fmt.Errorf("%q is no domain name; labels have up to 63 characters and names up to 253", name)
	}
	name, _, err = dns.UnpackDomainName(wire[:end], 0)
	if err != nil {
		return "", fmt.Errorf("%q is no domain name: %w", name, err)
	}
	return dns.CanonicalName(name), nil
}

// badEscape gives the first digits behind a backslash that stand for no byte (RFC 1035 section 5.1); empty: there are none.
func badEscape(name string) string {
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			continue
		}
		if i++; i == len(name) || name[i] < '0' || name[i] > '9' {
			continue
		}
		digits := name[i:min(i+3, len(name))]
		if _, err := strconv.ParseUint(digits, 10, 8); len(digits) < 3 || err != nil {
			return digits
		}
		i += 2
	}
	return ""
}

var hostLabels = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.)+$`)

// hostname is canonical for names that a client may connect to: letters, digits, dashes and underscores only.
func hostname(name string) (string, error) {
	canon, err := canonical(name)
	if err == nil && !hostLabels.MatchString(canon) {
		return "", fmt.Errorf("%q is no host name; use letters, digits and dashes, and xn-- forms for other letters", name)
	}
	return canon, err
}

// domain is canonical for names of rules: those of hosts and services, and wildcards of them.
func domain(name string) (string, error) {
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		canon, err := hostname(rest)
		return "*." + canon, err
	}
	return hostname(name)
}

// bare is a canonical name as people write it.
func bare(name string) string { return strings.TrimSuffix(name, ".") }
