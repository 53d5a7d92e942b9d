package bpf

import (
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

func TestSizes(t *testing.T) {
	spec, err := loadLb()
	put(t, err)
	for _, tc := range []struct {
		name    string
		got, in uintptr // Go's size; the map's
	}{
		{"vip_key", unsafe.Sizeof(VIPKey{}), uintptr(spec.Maps[lbMapVips].KeySize)},
		{"vip", unsafe.Sizeof(VIP{}), uintptr(spec.Maps[lbMapVips].ValueSize)},
		{"slot", unsafe.Sizeof(Slot{}), uintptr(spec.Maps[lbMapFarms].InnerMap.ValueSize)},
		{"real", unsafe.Sizeof(Real{}), uintptr(spec.Maps[lbMapReals].ValueSize)},
		{"count", unsafe.Sizeof(Count{}), uintptr(spec.Maps[lbMapCounts].ValueSize)},
		{"count of the real", unsafe.Sizeof(realCount{}), unsafe.Sizeof(Count{})},
	} {
		if tc.got != tc.in {
			t.Errorf("%s has %d bytes in Go and %d in C", tc.name, tc.got, tc.in)
		}
	}
	for _, tc := range []struct {
		name    string
		got, in uint32
	}{
		{"slots", Slots, spec.Maps[lbMapFarms].InnerMap.MaxEntries},
		{"farms", MaxFarms, spec.Maps[lbMapFarms].MaxEntries},
		{"reals", MaxReals, spec.Maps[lbMapReals].MaxEntries},
		{"counts", MaxVIPs, spec.Maps[lbMapCounts].MaxEntries},
		{"vips with their addresses", 2 * MaxVIPs, spec.Maps[lbMapVips].MaxEntries},
	} {
		if tc.got != tc.in {
			t.Errorf("%s: %d in Go, %d in C", tc.name, tc.got, tc.in)
		}
	}
}

// TestReasonNames holds the names that users see to the enum in C.
func TestReasonNames(t *testing.T) {
	text, err := os.ReadFile("headers/reason.h")
	put(t, err)
	body := string(text)
	body = body[strings.Index(body, "enum reason {"):]
	body = body[:strings.Index(body, "}")]
	var want []string
	for _, m := range regexp.MustCompile(`REASON_(\w+),`).FindAllStringSubmatch(body, -1) {
		want = append(want, strings.ToLower(m[1]))
	}
	want = want[:len(want)-1] // REASON_MAX
	if !slices.Equal(want, reasonNames[:]) {
		t.Errorf("reasons in C %q, in Go %q", want, reasonNames)
	}
	if uint32(lbReasonREASON_MAX) != uint32(realReasonREASON_MAX) {
		t.Error("the two programs were generated from different enums")
	}
}

func TestWireOrder(t *testing.T) {
	addr := netip.MustParseAddr("203.0.113.10")
	if got := NetAddr(Addr(addr)); got != addr {
		t.Errorf("address comes back as %v", got)
	}
	v := Addr(addr)
	if b := *(*[4]byte)(unsafe.Pointer(&v)); b != addr.As4() {
		t.Errorf("address lies in memory as %v", b)
	}
	p := Port(25)
	if b := *(*[2]byte)(unsafe.Pointer(&p)); b != [2]byte{0, 25} {
		t.Errorf("port 25 lies in memory as %v", b)
	}
	if Port(Port(40000)) != 40000 {
		t.Error("Port does not undo itself")
	}
}
