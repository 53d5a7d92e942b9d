package lb

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Ports is what a VIP takes of an address: one port, a range of them, or all. The zero Ports stands for a missing one.
type Ports struct{ Low, High uint16 }

// anyPort is the Ports that are written as any.
var anyPort = Ports{0, math.MaxUint16}

// OnePort gives the Ports of a single port.
func OnePort(port uint16) Ports { return Ports{port, port} }

// UnmarshalText implements encoding.TextUnmarshaler: 25, 1000-2000 or any.
func (p *Ports) UnmarshalText(text []byte) error {
	if string(text) == "any" {
		*p = anyPort
		return nil
	}
	from, to, isRange := strings.Cut(string(text), "-")
	low, err := parsePort(from)
	if err != nil {
		return err
	}
	high := low
	if isRange {
		if high, err = parsePort(to); err != nil {
			return err
		}
		if high <= low {
			return fmt.Errorf("%d is not more than %d", high, low)
		}
	}
	*p = Ports{low, high}
	return nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '0' || s[0] == '+' {
		return 0, fmt.Errorf("%q is no port", s)
	}
	return uint16(n), nil
}

// Kind says in a complaint what a value looks like.
func (Ports) Kind() string { return "a port from 1 to 65535, a range such as 1000-2000, or any" }

// String gives the form that the node file has.
func (p Ports) String() string {
	switch {
	case p == anyPort:
		return "any"
	case p.Low == p.High:
		return strconv.Itoa(int(p.Low))
	}
	return fmt.Sprintf("%d-%d", p.Low, p.High)
}

// MarshalText implements encoding.TextMarshaler.
func (p Ports) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// single says whether it is one port. The data path finds those by a lookup and ranges by a search.
func (p Ports) single() bool { return p.Low == p.High }

func (p Ports) width() int { return int(p.High) - int(p.Low) }

func (p Ports) overlaps(q Ports) bool { return p.Low <= q.High && q.Low <= p.High }
