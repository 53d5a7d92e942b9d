package vipreport

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"anycastle/internal/strict"
)

// Protocol is what both sides agree on in the TLS handshake (ALPN, RFC 7301).
const Protocol = "anycastle-vips/1"

// Beat is how often a balancer tells all though nothing has changed.
const Beat = time.Second

// Bounds of what is written and read.
const (
	MaxVIPs  = 4096 // of a balancer
	MaxName  = 64   // bytes of a VIP's name
	MaxWords = 256  // bytes of a reason

	maxExpires = time.Hour
	perLine    = 256       // VIPs of a line
	maxLine    = 512 << 10 // bytes of one
)

// State is how a VIP stands at a balancer.
type State string

// The states of a VIP. They are those of its reals, where all have one.
const (
	Active    State = "active"    // enough reals are in service
	Failed    State = "failed"    // too few are
	Suspended State = "suspended" // none is, by order
)

// Route is whether routers have the route of a VIP's address from the balancer.
type Route string

// The routes.
const (
	RouteUnknown   Route = "" // it cannot say
	RouteAnnounced Route = "announced"
	RouteWithdrawn Route = "withdrawn" // no router has it
)

// NotCounted is VIP.Flows where nobody counts.
const NotCounted = -1

// VIP is one VIP of a balancer. Two are equal (==) if they say the same.
type VIP struct {
	Name     string     `json:"name"` // unique at the balancer
	Address  netip.Addr `json:"address"`
	Protocol string     `json:"protocol"` // tcp or udp
	Port     string     `json:"port"`     // 25, 1000-2000 or any
	State    State      `json:"state"`
	Why      string     `json:"why,omitempty"` // it is not active
	Draining bool       `json:"draining,omitempty"`
	Route    Route      `json:"route,omitempty"`
	RouteWhy string     `json:"route_why,omitempty"`

	InService int `json:"in_service"` // reals that take new flows
	Reals     int `json:"reals"`

	// Load: established flows at all reals of the VIP's farm, against how many those that are in service can hold.
	Flows    int `json:"flows"`    // NotCounted: nobody counts
	Capacity int `json:"capacity"` // 0: nobody has said

	PacketsPerSecond float64 `json:"packets_per_second"` // that this balancer sent to reals; 0 in a line of what has changed
	BytesPerSecond   float64 `json:"bytes_per_second"`   // of these
}

// Steady is the VIP without what moves all the time: two of them differ if something has changed that cannot wait.
func (v VIP) Steady() VIP {
	v.Flows, v.PacketsPerSecond, v.BytesPerSecond = 0, 0, 0
	return v
}

// Report is what a balancer says at one moment.
type Report struct {
	Since      time.Time // start of the process that says so
	Generation uint64    // grows with each change, while Since stays the same
	Expires    time.Duration
	Whole      bool // VIPs are all that there are; else those that have changed
	VIPs       []VIP
}

// line is one line of a report. A whole report may have several.
type line struct {
	Since      time.Time `json:"since"`
	Generation uint64    `json:"generation"`
	ExpiresMS  int64     `json:"expires_ms"`
	Whole      bool      `json:"whole,omitempty"`
	More       bool      `json:"more,omitempty"` // the next line is of the same report
	VIPs       []VIP     `json:"vips"`
}

// Lines gives a report as it is sent.
func (r *Report) Lines() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // which would make six bytes of one
	for rest := r.VIPs; ; {
		part := rest[:min(len(rest), perLine)]
		rest = rest[len(part):]
		l := line{r.Since, r.Generation, r.Expires.Milliseconds(), r.Whole, len(rest) > 0, append([]VIP{}, part...)}
		if err := enc.Encode(l); err != nil {
			return nil, fmt.Errorf("write a report: %w", err)
		}
		if len(rest) == 0 {
			return out.Bytes(), nil
		}
	}
}

// Stream reads reports one after the other.
type Stream struct{ lines *bufio.Scanner }

// NewStream reads from what a balancer sends.
func NewStream(from io.Reader) *Stream {
	s := bufio.NewScanner(from)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	s.Split(wholeLine)
	return &Stream{s}
}

// wholeLine is a bufio.SplitFunc that gives no line without its end: what a connection had said when it broke is no report.
func wholeLine(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

// Next gives the next report, and io.EOF after the last one.
func (s *Stream) Next() (Report, error) {
	var r Report
	for n := 0; ; n++ {
		if !s.lines.Scan() {
			err := s.lines.Err()
			if err == nil && n > 0 {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return Report{}, fmt.Errorf("read a report: %w", err)
			}
			return Report{}, io.EOF
		}
		l, err := parseLine(s.lines.Bytes())
		if err == nil {
			err = r.add(l, n == 0)
		}
		if err != nil {
			return Report{}, fmt.Errorf("read a report: %w", err)
		}
		if !l.More {
			break
		}
	}
	if err := r.check(); err != nil {
		return Report{}, fmt.Errorf("read a report: %w", err)
	}
	return r, nil
}

// add takes one line more.
func (r *Report) add(l line, first bool) error {
	head := Report{l.Since, l.Generation, time.Duration(l.ExpiresMS) * time.Millisecond, l.Whole, nil}
	if first {
		*r = head
	} else if !r.Since.Equal(head.Since) || r.Generation != head.Generation || r.Expires != head.Expires || r.Whole != head.Whole {
		return errors.New("a line that goes on with another report")
	}
	if l.More && len(l.VIPs) == 0 {
		return errors.New("a line of nothing that has more after it")
	}
	if len(r.VIPs)+len(l.VIPs) > MaxVIPs {
		return fmt.Errorf("more than %d VIPs", MaxVIPs)
	}
	r.VIPs = append(r.VIPs, l.VIPs...)
	return nil
}

// parseLine decodes one line and nothing after it.
func parseLine(text []byte) (line, error) {
	var l line
	if err := strict.Unmarshal(text, &l); err != nil {
		return line{}, err
	}
	if l.ExpiresMS < 1 || l.ExpiresMS > maxExpires.Milliseconds() {
		return line{}, fmt.Errorf("it expires in %d ms, which cannot be", l.ExpiresMS)
	}
	if y := l.Since.Year(); l.Since.IsZero() || y < 1 || y > 9999 {
		return line{}, errors.New("no time is given")
	}
	return l, nil
}

func (r *Report) check() error {
	seen := make(map[string]bool, len(r.VIPs))
	for i := range r.VIPs {
		v := &r.VIPs[i]
		if err := v.check(); err != nil {
			return err
		}
		if seen[v.Name] {
			return fmt.Errorf("VIP %q is there twice", v.Name)
		}
		seen[v.Name] = true
	}
	return nil
}

func (v *VIP) check() error {
	switch a := v.Address; {
	case v.Name == "" || !words(v.Name, MaxName):
		return fmt.Errorf("%.80q is no name of a VIP", v.Name)
	case !a.IsValid() || a.Is4In6() || a.Zone() != "":
		return fmt.Errorf("VIP %q: %v is no address of a VIP", v.Name, a)
	case v.Protocol != "tcp" && v.Protocol != "udp":
		return fmt.Errorf("VIP %q: protocol %.20q is neither tcp nor udp", v.Name, v.Protocol)
	case !port(v.Port):
		return fmt.Errorf("VIP %q: %.20q is no port", v.Name, v.Port)
	case v.State != Active && v.State != Failed && v.State != Suspended:
		return fmt.Errorf("VIP %q: %.20q is no state", v.Name, v.State)
	case v.Route != RouteUnknown && v.Route != RouteAnnounced && v.Route != RouteWithdrawn:
		return fmt.Errorf("VIP %q: route %.20q is neither announced nor withdrawn", v.Name, v.Route)
	case !words(v.Why, MaxWords) || !words(v.RouteWhy, MaxWords):
		return fmt.Errorf("VIP %q: a reason is no line of at most %d bytes", v.Name, MaxWords)
	case v.InService < 0 || v.Reals < 0 || v.Flows < NotCounted || v.Capacity < 0:
		return fmt.Errorf("VIP %q: a count is negative", v.Name)
	case !rate(v.PacketsPerSecond) || !rate(v.BytesPerSecond):
		return fmt.Errorf("VIP %q: a rate cannot be", v.Name)
	}
	return nil
}

func words(text string, size int) bool {
	return len(text) <= size && utf8.ValidString(text) && strings.IndexFunc(text, unicode.IsControl) < 0
}

func rate(f float64) bool { return f >= 0 && !math.IsInf(f, 0) && !math.IsNaN(f) }

// port says whether a text is one port, a range of them, or any.
func port(text string) bool {
	if text == "any" {
		return true
	}
	from, to, isRange := strings.Cut(text, "-")
	low, lowErr := strconv.ParseUint(from, 10, 16)
	high, highErr := low, error(nil)
	if isRange {
		high, highErr = strconv.ParseUint(to, 10, 16)
	}
	return lowErr == nil && highErr == nil && low > 0 && (!isRange || high > low)
}
