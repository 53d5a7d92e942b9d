package reach

import (
	"fmt"
	"net/netip"
	"strings"
)

// Matrix is what may talk to what.
type Matrix struct {
	Places   []string // nodes to ask from, in the order of the columns
	Services []Service
}

// Service is a row of a matrix.
type Service struct {
	Name    string
	Target  Target
	Answers []Cell // one for each place
}

// Cell says what a place is to see of a service.
type Cell byte

// The cells of a matrix.
const (
	Open   Cell = '+' // it answers
	Silent Cell = '.' // nothing comes back, or a router on the way knows no route
	Own    Cell = 'o' // not asked: it is at the place itself
)

// Target is what is asked: "tcp 203.0.113.25:25", or "dns 203.0.113.53:53" for a question by UDP.
type Target struct {
	Proto string         `json:"proto"`
	Addr  netip.AddrPort `json:"addr"`
}

// agrees says whether a Result is what the cell wants.
func (c Cell) agrees(r Result) bool {
	return r.Says == SaysOwn || c == Open && r.Says == SaysOpen || c == Silent && (r.Says == SaysSilent || r.Says == SaysUnreachable)
}

// String gives the form that ParseTarget reads.
func (t Target) String() string { return t.Proto + " " + t.Addr.String() }

// ParseTarget reads what String gives.
func ParseTarget(text string) (Target, error) {
	proto, addr, _ := strings.Cut(text, " ")
	if proto != "tcp" && proto != "dns" {
		return Target{}, fmt.Errorf("%q is nothing to ask; write tcp or dns, and an address with its port", text)
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return Target{}, fmt.Errorf("target %q: %w", text, err)
	}
	return Target{proto, ap}, nil
}

// Parse reads a matrix. A line is empty, a comment with # in front, the places, or a service:
//
//	places                     client east-mx1
//	smtp  tcp 203.0.113.25:25  +      o
//
// A service's cells stand in the order of the places.
func Parse(text string) (*Matrix, error) {
	m := &Matrix{}
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if fields[0] == "places" {
			if m.Places != nil || len(fields) == 1 {
				return nil, fmt.Errorf("line %d: one line of places, with at least one, comes first", n)
			}
			m.Places = fields[1:]
			continue
		}
		s, err := parseService(fields, len(m.Places))
		if err == nil && seen[s.Name] {
			err = fmt.Errorf("service %s is given twice", s.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		seen[s.Name] = true
		m.Services = append(m.Services, s)
	}
	if len(m.Services) == 0 {
		return nil, fmt.Errorf("no services in the matrix")
	}
	return m, nil
}

func parseService(fields []string, places int) (Service, error) {
	const before = 3 // name, protocol, address
	if places == 0 || len(fields) != before+places {
		return Service{}, fmt.Errorf("service %s has %d cells for %d places", fields[0], max(0, len(fields)-before), places)
	}
	target, err := ParseTarget(fields[1] + " " + fields[2])
	if err != nil {
		return Service{}, err
	}
	s := Service{Name: fields[0], Target: target}
	for _, f := range fields[before:] {
		c := Cell(f[0])
		if len(f) != 1 || c != Open && c != Silent && c != Own {
			return Service{}, fmt.Errorf("%q is no cell; write + for open, . for silent, o for what is the place's own", f)
		}
		s.Answers = append(s.Answers, c)
	}
	return s, nil
}
