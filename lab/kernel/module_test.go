package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestModuleOrder(t *testing.T) {
	needs := map[string][]string{
		"net/bridge.ko": {"llc", "stp"}, "net/stp.ko": {"llc"}, "net/llc.ko": nil, "net/veth.ko": {"core"}, "net/sch-ingress.ko": nil,
		"net/broken.ko": {"lost"}, "net/a.ko": {"b"}, "net/b.ko": {"a"},
	}
	m := modules{files: map[string]string{}, builtIn: map[string]bool{"core": true}, needs: func(file string) ([]string, error) { return needs[file], nil }}
	for file := range needs {
		m.files[moduleName(file)] = file
	}
	for _, tc := range []struct {
		name, err   string
		names, want []string
	}{
		{name: "those needed first, each once", names: []string{"bridge", "stp", "bridge"}, want: []string{"net/llc.ko", "net/stp.ko", "net/bridge.ko"}},
		{name: "built in", names: []string{"core", "veth"}, want: []string{"net/veth.ko"}},
		{name: "dash for underscore", names: []string{"sch_ingress"}, want: []string{"net/sch-ingress.ko"}},
		{name: "circle", names: []string{"a"}, want: []string{"net/b.ko", "net/a.ko"}},
		{name: "missing", names: []string{"ipip"}, err: "kernel module ipip: the package has no such module"},
		{name: "missing below", names: []string{"broken"}, err: "(needed by broken)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := m.order(tc.names)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzDepends(f *testing.F) {
	f.Add([]byte("license=GPL\x00depends=stp,llc\x00retpoline=Y\x00name=bridge\x00"))
	f.Add([]byte("depends=\x00"))
	f.Add([]byte("depends=,a,,b"))
	f.Fuzz(func(t *testing.T, info []byte) {
		got := depends(info)
		if slices.Contains(got, "") {
			t.Errorf("%q gives %q", info, got)
		}
		for _, name := range got {
			if !strings.Contains(string(info), name) {
				t.Errorf("%q gives %q", info, name)
			}
		}
	})
}

func TestDepends(t *testing.T) {
	for info, want := range map[string][]string{
		"license=GPL\x00depends=stp,llc\x00retpoline=Y\x00": {"stp", "llc"},
		"license=GPL\x00depends=\x00retpoline=Y\x00":        {},
		"license=GPL\x00":          nil,
		"softdepends=a\x00x=y\x00": nil,
	} {
		if diff := cmp.Diff(want, depends([]byte(info))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", info, diff)
		}
	}
}
