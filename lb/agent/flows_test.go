package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func allFlows(from io.Reader, limit int) (list []Flow, err error) {
	_, err = ReadFlows(from, limit, func(f Flow) error {
		list = append(list, f)
		return nil
	})
	return list, err
}

func TestFlows(t *testing.T) {
	text := `[{"client":"192.0.2.7:4242","vip":"203.0.113.25:25","protocol":"tcp"},` +
		`{"client":"[2001:db8::7]:4242","vip":"[2001:db8::25]:25","protocol":"udp"}]`
	want := []Flow{
		{netip.MustParseAddrPort("192.0.2.7:4242"), netip.MustParseAddrPort("203.0.113.25:25"), TCP},
		{netip.MustParseAddrPort("[2001:db8::7]:4242"), netip.MustParseAddrPort("[2001:db8::25]:25"), UDP},
	}
	got, err := allFlows(strings.NewReader(text), 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, addrs); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
	for _, tc := range []struct{ name, text, want string }{
		{"more than asked for", text, "more than the 1 asked for"},
		{"without end", "[" + strings.Repeat(" ", 1<<20), "unexpected EOF"},
		{"no client", `[{"client":"","vip":"203.0.113.25:25","protocol":"tcp"}]`, "no address"},
		{"protocol", `[{"client":"192.0.2.7:1","vip":"203.0.113.25:25","protocol":""}]`, "neither tcp nor udp"},
		{"unknown key", `[{"real":"mx1"}]`, "unknown field"},
		{"two IP versions", `[{"client":"192.0.2.7:1","vip":"[2001:db8::25]:25","protocol":"tcp"}]`, "two IP versions"},
		{"no list", `null`, "in place of ["},
		{"an object", `{"flows":[]}`, "in place of ["},
		{"more behind it", `[] []`, "something follows"},
		{"nothing", ``, "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := allFlows(strings.NewReader(tc.text), 1); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
		})
	}
}

func TestFlowsEndWithWhoTakesThem(t *testing.T) {
	text := `[{"client":"192.0.2.7:1","vip":"203.0.113.25:25","protocol":"tcp"},{"client":"192.0.2.7:2","vip":"203.0.113.25:25","protocol":"tcp"}]`
	enough := errors.New("enough")
	n, err := ReadFlows(strings.NewReader(text), 5, func(Flow) error { return enough })
	if n != 1 || !errors.Is(err, enough) {
		t.Errorf("%d flows, %v", n, err)
	}
}

// TestFlowFits holds maxFlowSize against the longest flow there is.
func TestFlowFits(t *testing.T) {
	longest := netip.MustParseAddrPort("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535")
	b, err := json.Marshal(Flow{longest, longest, TCP})
	if err != nil || len(b)+2 > maxFlowSize {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	list := fmt.Sprintf("[%s,%s,%s]", b, b, b)
	if got, err := allFlows(strings.NewReader(list), 3); err != nil || len(got) != 3 {
		t.Errorf("%d flows, %v", len(got), err)
	}
}

// FuzzFlows looks for panics, for more than was asked for, and for flows that cannot be.
func FuzzFlows(f *testing.F) {
	f.Add([]byte(`[{"client":"192.0.2.7:4242","vip":"203.0.113.25:25","protocol":"tcp"}]`), 1)
	f.Add([]byte(`[{"client":"[2001:db8::7]:1","vip":"[2001:db8::25]:53","protocol":"udp"} , {}]`), 3)
	f.Fuzz(func(t *testing.T, text []byte, limit int) {
		list, _ := allFlows(bytes.NewReader(text), limit)
		if len(list) > max(limit, 0) {
			t.Errorf("%d flows, asked for %d", len(list), limit)
		}
		for _, flow := range list {
			if flow.Client.Addr().Is4() != flow.VIP.Addr().Is4() || flow.check() != nil {
				t.Errorf("took %+v", flow)
			}
		}
	})
}
