package keys

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestMakeSignsForNamesAndAddresses(t *testing.T) {
	dir := t.TempDir()
	host := Host{Name: "east-mx1", Names: []string{"smtp.mail.example.org"}, Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.7")}}
	if err := Make(dir, []Host{host, {Name: "client"}}); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "east-mx1/node.pem"), filepath.Join(dir, "east-mx1/node.key"))
	if err != nil {
		t.Fatal(err)
	}
	// the authority as another node has it
	ca, err := os.ReadFile(filepath.Join(dir, "client/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, name := range []string{"east-mx1", "smtp.mail.example.org", "198.51.100.7"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "example.net", Roots: roots}); err == nil {
		t.Error("good for example.net, which the host is not")
	}
	info, err := os.Stat(filepath.Join(dir, "east-mx1/node.key"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key is %v, want 0600", info.Mode().Perm())
	}
}
