package vipreport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const valid = `{"since":"2026-11-23T10:00:00Z","generation":7,"expires_ms":3000,"whole":true,"vips":[{"name":"smtp",` +
	`"address":"203.0.113.25","protocol":"tcp","port":"25","state":"failed","why":"no real","draining":true,` +
	`"route":"withdrawn","route_why":"order drain","in_service":1,"reals":3,"flows":42,"capacity":1000,` +
	`"packets_per_second":1.5,"bytes_per_second":3000}]}`

var read = Report{
	Since: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), Generation: 7, Expires: 3 * time.Second, Whole: true,
	VIPs: []VIP{{
		Name: "smtp", Address: netip.MustParseAddr("203.0.113.25"), Protocol: "tcp", Port: "25", State: Failed, Why: "no real", Draining: true,
		Route: RouteWithdrawn, RouteWhy: "order drain", InService: 1, Reals: 3, Flows: 42, Capacity: 1000, PacketsPerSecond: 1.5, BytesPerSecond: 3000,
	}},
}

var addrs = cmpopts.EquateComparable(netip.Addr{})

func TestReport(t *testing.T) {
	got, err := NewStream(strings.NewReader(valid + "\n")).Next()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(read, got, addrs); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	lines, err := got.Lines()
	if err != nil || string(lines) != valid+"\n" {
		t.Errorf("written as\n%s, %v, want\n%s", lines, err, valid)
	}
}

func TestReportIsTakenStrictly(t *testing.T) {
	vip := valid[strings.Index(valid, `{"name"`) : len(valid)-2]
	more := strings.Replace(valid, `"whole":true`, `"whole":true,"more":true`, 1)
	for _, tc := range []struct{ name, old, new, want string }{
		{"unknown key", `"state"`, `"mood"`, "unknown field"},
		{"no time", `"since":"2026-11-23T10:00:00Z",`, "", "no time is given"},
		{"expired", `3000,"whole"`, `0,"whole"`, "it expires in 0 ms"},
		{"expires never", `3000,"whole"`, `3600001,"whole"`, "it expires in 3600001 ms"},
		{"nameless", `"smtp"`, `""`, "is no name of a VIP"},
		{"name with a line", `"smtp"`, `"sm\ntp"`, "is no name of a VIP"},
		{"name too long", `"smtp"`, `"` + strings.Repeat("x", 65) + `"`, "is no name of a VIP"},
		{"ipv4 in ipv6", `"203.0.113.25"`, `"::ffff:203.0.113.25"`, "no address of a VIP"},
		{"zone", `"203.0.113.25"`, `"fe80::1%eth0"`, "no address of a VIP"},
		{"protocol", `"tcp"`, `"sctp"`, `protocol "sctp" is neither`},
		{"port", `"port":"25"`, `"port":"0"`, `"0" is no port`},
		{"ports", `"port":"25"`, `"port":"30-20"`, `"30-20" is no port`},
		{"state", `"failed"`, `"sad"`, `"sad" is no state`},
		{"route", `"withdrawn"`, `"maybe"`, `route "maybe" is neither`},
		{"reason too long", `"no real"`, `"` + strings.Repeat("x", 257) + `"`, "no line of at most 256 bytes"},
		{"negative reals", `"reals":3`, `"reals":-1`, "a count is negative"},
		{"negative flows", `"flows":42`, `"flows":-2`, "a count is negative"},
		{"negative rate", "1.5", "-1.5", "a rate cannot be"},
		{"rate too large", "1.5", "1e999", "number 1e999"},
		{"twice", vip, vip + "," + vip, `VIP "smtp" is there twice`},
		{"two in a line", vip + "]}", vip + "]}{}", "something follows it"},
		{"nothing", valid, " ", "EOF"},
		{"no object", valid, "[]", "cannot unmarshal array"},
		{"half of two lines", valid, more, "unexpected EOF"},
		{"goes on with another", valid, more + "\n" + strings.Replace(valid, ":7,", ":8,", 1), "goes on with another report"},
		{"goes on with the same", valid, more + "\n" + valid, `VIP "smtp" is there twice`},
		{"goes on with nothing", valid, strings.Replace(more, vip, "", 1) + "\n" + valid, "a line of nothing that has more"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(valid, tc.old, tc.new, 1)
			if text == valid {
				t.Fatalf("%q is not in the valid report", tc.old)
			}
			_, err := NewStream(strings.NewReader(text + "\n")).Next()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
		})
	}
}

// TestLargestReport holds the bounds of a line against all the VIPs there may be.
func TestLargestReport(t *testing.T) {
	r := read
	r.VIPs = nil
	for i := range MaxVIPs {
		v := read.VIPs[0]
		v.Name = fmt.Sprintf("%0*d", MaxName, i)
		v.Address = netip.MustParseAddr("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
		v.Port, v.Why, v.RouteWhy = "10000-20000", strings.Repeat(`"`, MaxWords), strings.Repeat("\\", MaxWords) // JSON writes two bytes for each
		v.Flows, v.Capacity, v.InService, v.Reals = 1<<40, 1<<40, 1<<40, 1<<40
		v.PacketsPerSecond, v.BytesPerSecond = 1.2345678901234567e308, 1.2345678901234567e308
		r.VIPs = append(r.VIPs, v)
	}
	lines, err := r.Lines()
	if err != nil {
		t.Fatal(err)
	}
	s := NewStream(bytes.NewReader(lines))
	got, err := s.Next()
	if diff := cmp.Diff(r, got, addrs); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%.1000s", err, diff)
	}
	if _, err := s.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last one: %v", err)
	}
	r.VIPs = append(r.VIPs, VIP{Name: "one more"})
	if lines, err = r.Lines(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewStream(bytes.NewReader(lines)).Next(); err == nil || !strings.Contains(err.Error(), "more than 4096 VIPs") {
		t.Errorf("one more is taken with %v", err)
	}
	if _, err := NewStream(strings.NewReader(strings.Repeat(" ", maxLine+1))).Next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a line without end: %v", err)
	}
}

// What a connection had said when it broke is no report, and why it broke is told.
func TestStreamThatBreaks(t *testing.T) {
	broken := errors.New("it broke")
	for _, tc := range []struct {
		from io.Reader
		want error
	}{
		{strings.NewReader(valid), io.ErrUnexpectedEOF},
		{io.MultiReader(strings.NewReader(valid), iotest.ErrReader(broken)), broken},
		{io.MultiReader(strings.NewReader(valid+"\n"), iotest.ErrReader(broken)), nil},
		{strings.NewReader(""), io.EOF},
	} {
		if _, err := NewStream(tc.from).Next(); !errors.Is(err, tc.want) {
			t.Errorf("error %v, want %v", err, tc.want)
		}
	}
}

func TestSteady(t *testing.T) {
	v := read.VIPs[0]
	w := v
	w.Flows, w.PacketsPerSecond, w.BytesPerSecond = 1, 2, 3
	if v.Steady() != w.Steady() {
		t.Error("a VIP with another load cannot wait")
	}
	w.InService++
	if v.Steady() == w.Steady() {
		t.Error("a VIP with another real can wait")
	}
}

// FuzzReport checks that what is taken can be written, and is taken as the same again.
func FuzzReport(f *testing.F) {
	f.Add([]byte(valid + "\n"))
	f.Add([]byte(strings.Replace(valid, `"whole":true`, `"whole":true,"more":true`, 1) + "\n" + strings.Replace(valid, "smtp", "imap", 1) + "\n"))
	f.Add([]byte(`{"since":"2026-11-23T10:00:00+02:00","generation":0,"expires_ms":1,"vips":null}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := NewStream(bytes.NewReader(text))
		for {
			r, err := s.Next()
			if err != nil {
				return
			}
			lines, err := r.Lines()
			if err != nil {
				t.Fatalf("%+v is taken and cannot be written: %v", r, err)
			}
			again, err := NewStream(bytes.NewReader(lines)).Next()
			if err != nil {
				t.Fatalf("%s is written and not taken: %v", lines, err)
			}
			if diff := cmp.Diff(r, again, addrs, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("read again (-first +second):\n%s", diff)
			}
		}
	})
}
