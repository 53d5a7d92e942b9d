package mtasts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Mode says what a sender does when a host does not fit the policy.
type Mode string

// The modes of RFC 8461 section 3.2.
const (
	Enforce Mode = "enforce" // the host is not used
	Testing Mode = "testing" // the host is used
	None    Mode = "none"    // as without a policy
)

const (
	// maxAge is the longest time that a policy may be kept (RFC 8461 section 3.2).
	maxAge = 31557600 * time.Second
	// maxPatterns bounds the hosts of one policy.
	maxPatterns = 200
)

// ErrNoRecord says that a domain has no valid MTA-STS record, which is the same as none.
var ErrNoRecord = errors.New("mtasts: no record")

// Policy is what a domain wants of its senders.
type Policy struct {
	Mode   Mode
	MX     []string // names in lower case; one that begins with *. stands for any one label
	MaxAge time.Duration
}

// ParseRecord gives the id of the policy from the texts of _mta-sts.DOMAIN (RFC 8461 section 3.1).
func ParseRecord(texts []string) (id string, err error) {
	found := 0
	for _, text := range texts {
		rest, ok := strings.CutPrefix(text, "v=STSv1")
		if rest = strings.TrimLeft(rest, " \t"); !ok || !strings.HasPrefix(rest, ";") {
			continue
		}
		found++
		for field := range strings.SplitSeq(rest[1:], ";") {
			if key, value, ok := strings.Cut(strings.Trim(field, " \t"), "="); ok && key == "id" && id == "" {
				id = value
			}
		}
	}
	switch {
	case found != 1:
		return "", fmt.Errorf("%w: %d texts begin with v=STSv1", ErrNoRecord, found)
	case len(id) < 1 || len(id) > 32 || strings.ContainsFunc(id, func(r rune) bool { return !alphanumeric(r) }):
		return "", fmt.Errorf("%w: its id %.40q is not 1 to 32 letters and digits", ErrNoRecord, id)
	}
	return id, nil
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// ParsePolicy reads a policy file (RFC 8461 section 3.2). Of a key that is there twice the first counts, except mx; unknown
// keys are left alone.
func ParsePolicy(text string) (Policy, error) {
	var p Policy
	seen := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return Policy{}, fmt.Errorf("mtasts: policy has the line %.60q without a colon", line)
		}
		value = strings.Trim(value, " \t")
		if seen[key] && key != "mx" {
			continue
		}
		seen[key] = true
		if err := p.set(key, value); err != nil {
			return Policy{}, err
		}
	}
	switch {
	case !seen["version"] || !seen["mode"] || !seen["max_age"]:
		return Policy{}, errors.New("mtasts: policy lacks version, mode or max_age")
	case len(p.MX) == 0 && p.Mode != None:
		return Policy{}, errors.New("mtasts: policy names no mx")
	}
	return p, nil
}

// set takes one field.
func (p *Policy) set(key, value string) error {
	switch key {
	case "version":
		if value != "STSv1" {
			return fmt.Errorf("mtasts: policy is of version %.20q", value)
		}
	case "mode":
		p.Mode = Mode(value)
		if p.Mode != Enforce && p.Mode != Testing && p.Mode != None {
			return fmt.Errorf("mtasts: policy has the mode %.20q", value)
		}
	case "max_age":
		seconds, err := strconv.ParseUint(value, 10, 32)
		if err != nil || len(value) > 10 {
			return fmt.Errorf("mtasts: policy has the max_age %.20q", value)
		}
		p.MaxAge = min(time.Duration(seconds)*time.Second, maxAge)
	case "mx":
		name := strings.ToLower(value)
		if !isName(strings.TrimPrefix(name, "*.")) || len(p.MX) == maxPatterns {
			return fmt.Errorf("mtasts: policy has the mx %.60q, or too many", value)
		}
		p.MX = append(p.MX, name)
	}
	return nil
}

// isName says whether a text is a host name of letters, digits, hyphens and dots.
func isName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !alphanumeric(r) && r != '-' }) {
			return false
		}
	}
	return true
}

// Matches says whether the policy names a host (RFC 8461 section 4.1). A pattern with *. stands for exactly one label more.
func (p Policy) Matches(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, pattern := range p.MX {
		if pattern == host {
			return true
		}
		rest, wild := strings.CutPrefix(pattern, "*.")
		if label, parent, ok := strings.Cut(host, "."); wild && ok && label != "" && parent == rest {
			return true
		}
	}
	return false
}
