package bpf

import (
	"bytes"
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
		{"vip_key4", unsafe.Sizeof(VIPKey4{}), uintptr(spec.Maps[lbMapVips4].KeySize)},
		{"vip_key6", unsafe.Sizeof(VIPKey6{}), uintptr(spec.Maps[lbMapVips6].KeySize)},
		{"vip", unsafe.Sizeof(VIP{}), uintptr(spec.Maps[lbMapVips4].ValueSize)},
		{"address", unsafe.Sizeof(Address{}), uintptr(spec.Maps[lbMapAddresses].ValueSize)},
		{"block", unsafe.Sizeof(Block{}), uintptr(spec.Maps[lbMapFarms].InnerMap.ValueSize)},
		{"flow_bucket", unsafe.Sizeof(lbFlowBucket{}), uintptr(spec.Maps[lbMapFlows].ValueSize)},
		{"flow_name", unsafe.Sizeof(lbFlowName{}), uintptr(spec.Maps[lbMapFlowNames].ValueSize)},
		{"fragment_key", unsafe.Sizeof(FragmentKey{}), uintptr(spec.Maps[lbMapFragments].KeySize)},
		{"fragment", unsafe.Sizeof(Fragment{}), uintptr(spec.Maps[lbMapFragments].ValueSize)},
		{"trace", unsafe.Sizeof(Trace{}), uintptr(spec.Maps[lbMapExplained].ValueSize)},
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
		{"slots", Slots / SlotsPerBlock, spec.Maps[lbMapFarms].InnerMap.MaxEntries},
		{"farms", MaxFarms, spec.Maps[lbMapFarms].MaxEntries},
		{"reals", MaxReals, spec.Maps[lbMapReals].MaxEntries},
		{"counts", MaxVIPs, spec.Maps[lbMapCounts].MaxEntries},
		{"vips", MaxVIPs, spec.Maps[lbMapVips4].MaxEntries},
		{"ranges", MaxRanges, uint32(len(Address{}.Range))},
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
	for _, s := range []string{"203.0.113.10", "2001:db8::1:25"} {
		addr := netip.MustParseAddr(s)
		if got := NetAddr(Addr(addr), addr.Is6()); got != addr {
			t.Errorf("address comes back as %v", got)
		}
		v := Addr(addr)
		if b := unsafe.Slice((*byte)(unsafe.Pointer(&v)), addr.BitLen()/8); !bytes.Equal(b, addr.AsSlice()) {
			t.Errorf("address lies in memory as %v", b)
		}
	}
	p := Port(25)
	if b := *(*[2]byte)(unsafe.Pointer(&p)); b != [2]byte{0, 25} {
		t.Errorf("port 25 lies in memory as %v", b)
	}
	if Port(Port(40000)) != 40000 {
		t.Error("Port does not undo itself")
	}
}
