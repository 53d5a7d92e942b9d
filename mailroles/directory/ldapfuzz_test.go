package directory

import (
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func FuzzLDAPFilter(f *testing.F) {
	for _, s := range []string{"alice@example.org", "*@example.org", "x)(mail=*@example.org", "a\\2a@example.org", "\u00fc@example.org"} {
		f.Add(s)
	}
	var c LDAPConfig
	c.SetDefaults()
	s := &ldapSource{cfg: c}
	f.Fuzz(func(t *testing.T, address string) {
		packet, err := ldap.CompileFilter(s.filter(address))
		if err != nil {
			t.Fatalf("%q makes no filter: %v", address, err)
		}
		// an AND of the configured filter and an OR of two equalities, whatever the address
		if packet.Tag != ldap.FilterAnd || len(packet.Children) != 2 || len(packet.Children[1].Children) != 2 {
			t.Fatalf("%q makes another filter: %s", address, s.filter(address))
		}
		for _, eq := range packet.Children[1].Children {
			if eq.Tag != ldap.FilterEqualityMatch || len(eq.Children) != 2 || eq.Children[1].Data.String() != address {
				t.Fatalf("%q is not compared as it is: %s", address, s.filter(address))
			}
		}
	})
}
