package look

import (
	"slices"
	"strings"
	"testing"

	"anycastle/internal/config"
)

func TestRolesOfANodeFile(t *testing.T) {
	for text, want := range map[string]string{
		"net: {forward: true}\nrhi: {asn: 1}":              "rhi",
		"lb: {uplinks: [eth1]}\nrhi: {asn: 1}":             "lb",
		"gss: {listen: []}\nrhi: {asn: 1}":                 "gss",
		"gss: {listen: []}":                                "gss",
		"rhi: {asn: 1}\nmail: {store: {node: a}}":          "store",
		"mail: {store: {lun: a}}":                          "store",
		"real: {uplinks: [eth1]}\nmail: {smtp: {}}":        "",
		"net: {loopback: [192.0.2.1/32]}\nmail: {imap: 1}": "",
	} {
		doc, err := config.Parse("node.yml", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := strings.Join(rolesOf(doc), " "); got != want {
			t.Errorf("%s: roles %q, want %q", text, got, want)
		}
	}
}

func TestBriefNamesAFew(t *testing.T) {
	few := map[string][]string{"b": {"b: 1"}, "a": {"a: 1", "a: 2"}}
	if got := brief(few); got != "a: 1; a: 2; b: 1" {
		t.Error(got)
	}
	many := map[string][]string{"a": slices.Repeat([]string{"a: x"}, 7)}
	if got := brief(many); got != "a: x; a: x; a: x; a: x; and 3 more" {
		t.Error(got)
	}
}
