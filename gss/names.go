package gss

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/miekg/dns"
)

// canonical gives a name in lower case, with a dot at its end, and with no more escapes than it needs, so that two
// spellings of one name are one map key.
func canonical(name string) (string, error) {
	if name == "" {
		return "", errors.New("missing; give a domain name")
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
