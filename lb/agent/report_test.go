package agent

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const valid = `{"at":"2026-11-23T10:00:00.05Z","since":"2026-11-23T09:00:00Z","load":0.42,"counted":"2026-11-23T10:00:00Z",` +
	`"vips":[{"address":"203.0.113.25","protocol":"tcp","port":25,"flows":3,"listening":true,"queue":1,"backlog":128,` +
	`"syns":9,"syn_acks":8,"refused":1,"resets":2,"overflows":4}]}`

var parsed = Report{
	At:    time.Date(2026, 11, 23, 10, 0, 0, 5e7, time.UTC),
	Since: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), Load: 0.42, Counted: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
	VIPs: []Port{{Address: netip.MustParseAddr("203.0.113.25"), Protocol: TCP, Port: 25, Flows: 3, Listening: true, Queue: 1,
		Backlog: 128, SYNs: 9, SYNACKs: 8, Refused: 1, Resets: 2, Overflows: 4}},
}

var addrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

func TestReport(t *testing.T) {
	got, err := ParseReport([]byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(parsed, got, addrs); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	line, err := got.Line()
	if err != nil || string(line) != valid+"\n" {
		t.Errorf("written as\n%s, %v, want\n%s", line, err, valid)
	}
	if k := parsed.VIPs[0].Key().String(); k != "203.0.113.25:25" {
		t.Errorf("shown as %s", k)
	}
}

func TestReportIsTakenStrictly(t *testing.T) {
	vip := valid[strings.Index(valid, `{"address"`) : len(valid)-2]
	many := strings.Repeat(vip+",", MaxPorts) + vip
	for _, tc := range []struct{ name, old, new, want string }{
		{"unknown key", `"load"`, `"temperature"`, "unknown field"},
		{"no time", `"at":"2026-11-23T10:00:00.05Z",`, "", "no time is given"},
		{"negative load", "0.42", "-1", "load -1 cannot be"},
		{"load too large", "0.42", "1e999", "load"},
		{"no address", `"203.0.113.25"`, `""`, "no address of a VIP"},
		{"text for an address", `"203.0.113.25"`, `"mx1"`, "unable to parse IP"},
		{"ipv4 in ipv6", `"203.0.113.25"`, `"::ffff:203.0.113.25"`, "no address of a VIP"},
		{"zone", `"203.0.113.25"`, `"fe80::1%eth0"`, "no address of a VIP"},
		{"protocol", `"tcp"`, `"sctp"`, `protocol "sctp" is neither`},
		{"port 0", `"port":25`, `"port":0`, "port 0"},
		{"port too large", `"port":25`, `"port":65536`, "cannot unmarshal number 65536"},
		{"negative flows", `"flows":3`, `"flows":-3`, "with -3 flows"},
		{"negative count", `"refused":1`, `"refused":-1`, "cannot unmarshal number -1"},
		{"twice", vip, vip + "," + vip, "203.0.113.25:25 is there twice"},
		{"too many", vip, many, "1025 ports are more than 1024"},
		{"two in a line", vip + "]}", vip + "]}{}", "something follows it"},
		{"nothing", valid, "", "EOF"},
		{"no object", valid, "[]", "cannot unmarshal array"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseReport([]byte(strings.Replace(valid, tc.old, tc.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
		})
	}
}

func TestStream(t *testing.T) {
	s := NewStream(strings.NewReader(valid + "\n" + valid + "\n"))
	for range 2 {
		if _, err := s.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last one: %v", err)
	}
	if _, err := NewStream(strings.NewReader(strings.Repeat(" ", maxLine+1))).Next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a line without end: %v", err)
	}
}

// TestLargestReportFits holds maxLine against a report with all the ports there may be.
func TestLargestReportFits(t *testing.T) {
	r := parsed
	p := r.VIPs[0]
	p.Address = netip.MustParseAddr("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
	p.SYNs, p.SYNACKs, p.Refused, p.Resets, p.Overflows = 1<<63, 1<<63, 1<<63, 1<<63, 1<<63
	p.Queue, p.Backlog, p.Flows = 1<<31, 1<<31, 1<<40
	r.VIPs = nil
	for i := range MaxPorts {
		p.Port = uint16(60000 + i)
		r.VIPs = append(r.VIPs, p)
	}
	line, err := r.Line()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := NewStream(bytes.NewReader(line)).Next(); err != nil || len(got.VIPs) != MaxPorts {
		t.Errorf("%d bytes give %d ports, %v", len(line), len(got.VIPs), err)
	}
}

// FuzzReport checks that what is taken can be written, and is taken as the same again.
func FuzzReport(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte(`{"at":"2026-11-23T10:00:00Z","since":"2026-11-23T10:00:00+02:00","vips":null}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseReport(line)
		if err != nil {
			return
		}
		again, err := r.Line()
		if err != nil {
			t.Fatalf("%s cannot be written: %v", line, err)
		}
		back, err := ParseReport(again)
		if err != nil {
			t.Fatalf("%s is written as %s: %v", line, again, err)
		}
		same := cmp.Options{addrs, cmpopts.EquateEmpty(), cmp.Comparer(time.Time.Equal)}
		if diff := cmp.Diff(r, back, same); diff != "" {
			t.Errorf("%s is taken as another (-first +second):\n%s", line, diff)
		}
	})
}
