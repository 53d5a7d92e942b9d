package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"time"

	"anycastle/internal/strict"
)

// Bounds of what is written and read.
const (
	MaxPorts = 1024                  // ports of VIPs in a report
	MaxFlows = 1 << 20               // in a list
	MinEvery = 20 * time.Millisecond // between two reports
	MaxEvery = 10 * time.Second

	maxLine = 512 << 10 // bytes of a report
)

// Protocols of a port, as they are written.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Report is what a real knows of its VIPs at one moment. Counts never fall while Since stays the same.
type Report struct {
	At      time.Time `json:"at"`
	Since   time.Time `json:"since"`   // start of the process that counts
	Load    float64   `json:"load"`    // 0: idle; 1: fully used; more: work waits
	Counted time.Time `json:"counted"` // when the flows were counted; the zero time: not yet
	VIPs    []Port    `json:"vips"`    // those ports that are served or were; no two the same
}

// Port is one port of a VIP.
type Port struct {
	Address   netip.Addr `json:"address"`
	Protocol  string     `json:"protocol"`
	Port      uint16     `json:"port"`
	Flows     int        `json:"flows"`
	Listening bool       `json:"listening"` // a process takes new flows
	Queue     uint32     `json:"queue"`     // TCP connections that wait to be accepted
	Backlog   uint32     `json:"backlog"`   // when more wait, the next one is dropped
	SYNs      uint64     `json:"syns"`      // that came in; a client that gets no answer sends more
	SYNACKs   uint64     `json:"syn_acks"`  // answers to them
	Refused   uint64     `json:"refused"`   // by RST, or ICMP port unreachable
	Resets    uint64     `json:"resets"`    // other RST that were sent
	Overflows uint64     `json:"overflows"` // connections or datagrams that were dropped since their queue was full
}

// Key tells the ports of a report apart.
type Key struct {
	VIP      netip.AddrPort
	Protocol string
}

// Key gives which port it is.
func (p Port) Key() Key { return Key{netip.AddrPortFrom(p.Address, p.Port), p.Protocol} }

// String gives it as it is shown: the protocol is left out where it is TCP.
func (k Key) String() string {
	if k.Protocol == TCP {
		return k.VIP.String()
	}
	return k.VIP.String() + "/" + k.Protocol
}

// Flow is one client's connection to a VIP.
type Flow struct {
	Client   netip.AddrPort `json:"client"`
	VIP      netip.AddrPort `json:"vip"`
	Protocol string         `json:"protocol"`
}

func checkProtocol(s string) error {
	if s != TCP && s != UDP {
		return fmt.Errorf("protocol %.20q is neither tcp nor udp", s)
	}
	return nil
}

func checkAddr(a netip.Addr) error {
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
		return fmt.Errorf("%v is no address of a VIP or a client", a)
	}
	return nil
}

func (p Port) check() error {
	if err := errors.Join(checkAddr(p.Address), checkProtocol(p.Protocol)); err != nil {
		return err
	}
	if p.Port == 0 || p.Flows < 0 {
		return fmt.Errorf("port %d with %d flows cannot be", p.Port, p.Flows)
	}
	return nil
}

func (r *Report) check() error {
	if r.At.IsZero() || r.Since.IsZero() {
		return errors.New("no time is given")
	}
	if r.Load < 0 || math.IsInf(r.Load, 0) || math.IsNaN(r.Load) {
		return fmt.Errorf("load %v cannot be", r.Load)
	}
	if len(r.VIPs) > MaxPorts {
		return fmt.Errorf("%d ports are more than %d", len(r.VIPs), MaxPorts)
	}
	seen := make(map[Key]bool, len(r.VIPs))
	for _, p := range r.VIPs {
		if err := p.check(); err != nil {
			return err
		}
		if seen[p.Key()] {
			return fmt.Errorf("%v is there twice", p.Key())
		}
		seen[p.Key()] = true
	}
	return nil
}

// Line gives a report as it is sent.
func (r *Report) Line() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write a report: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseReport reads one report.
func ParseReport(line []byte) (Report, error) {
	var r Report
	if err := strict.Unmarshal(line, &r); err != nil {
		return Report{}, fmt.Errorf("read a report: %w", err)
	}
	if err := r.check(); err != nil {
		return Report{}, fmt.Errorf("read a report: %w", err)
	}
	return r, nil
}

// Stream reads reports one after the other.
type Stream struct{ lines *bufio.Scanner }

// NewStream reads from what a real sends.
func NewStream(from io.Reader) *Stream {
	s := bufio.NewScanner(from)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	return &Stream{s}
}

// Next gives the next report, and io.EOF after the last one.
func (s *Stream) Next() (Report, error) {
	if !s.lines.Scan() {
		if err := s.lines.Err(); err != nil {
			return Report{}, fmt.Errorf("read a report: %w", err)
		}
		return Report{}, io.EOF
	}
	return ParseReport(s.lines.Bytes())
}
