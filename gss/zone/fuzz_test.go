package zone

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzParse wants a zone that is taken to be the same after a transfer, and after it is written and read, and what is
// refused to be refused with errors that have a place.
func FuzzParse(f *testing.F) {
	rich, err := os.ReadFile(richZone)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(rich))
	for _, text := range []string{
		"", "$INCLUDE inc.zone sub\n", "$GENERATE 1-9/2 a$ 5 MX $ b${1,3,x}\n", "a ( TXT \"x\\\"y\" ; c\n 'z' )\n", "a TYPE65280 \\# 2 0102\n",
		"*.a CNAME b\nd DNAME e\ns NS ns.s\nns.s A 192.0.2.1\ns DS 1 13 2 " + strings.Repeat("00", 32) + "\n", "$TTL 1w2d\n$ORIGIN x\n@ A 192.0.2.1\n",
		"a LOC 52 22 23.000 N 4 53 32.000 E -2.00m\nb NAPTR 1 1 \"u\" \"s\" \"!x!y!\" .\nc HTTPS 1 . alpn=h2 key65400=\"a\\001\"\nd APL 1:192.0.2.0/24\n",
		"a CAA 0 issue \"x\"\nb URI 1 1 \"https://x\"\nc SSHFP 1 1 00\nd NULL \\# 0\ne HINFO a b\nf RP a b\ng CERT 1 1 1 AAAA\nh HIP 2 00 AAAA\ni EUI48 00-00-5e-00-53-01\n",
	} {
		f.Add(head + text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		z, err := parse("example.org", "fuzz.zone", strings.NewReader(text), openFake)
		if err != nil {
			var errs Errors
			if !errors.As(err, &errs) || errs[0].Line == 0 {
				t.Fatalf("an error without a line: %v", err)
			}
			return
		}
		again, err := Build("example.org", z.All(nil))
		if err != nil {
			t.Fatalf("transferred: %v", err)
		}
		same(t, z, again)
		var out strings.Builder
		for rr := range z.All(nil) {
			if !writable(rr) {
				return
			}
			out.WriteString(rr.String() + "\n")
		}
		again, err = Parse("example.org", "again.zone", strings.NewReader(out.String()))
		if err != nil {
			t.Fatalf("%v in what is written:\n%s", err, out.String())
		}
		same(t, z, again)
	})
}

// openFake has the one file that a fuzzed zone may include.
func openFake(file string) (io.ReadCloser, error) {
	if file != "inc.zone" {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader("i A 192.0.2.1\n$INCLUDE inc.zone\n")), nil
}

func same(t *testing.T, a, b *Zone) {
	t.Helper()
	if del, add := Diff(a, b); len(del)+len(add) > 0 {
		t.Fatalf("changed from\n%s\nto\n%s", strings.Join(lines(del), "\n"), strings.Join(lines(add), "\n"))
	}
	if x, y := a.SOA().String(), b.SOA().String(); !strings.EqualFold(x, y) {
		t.Fatalf("changed from %s to %s", x, y)
	}
}

// writable says that miekg/dns reads all records of a type as it writes them. It does not for LOC (beyond its
// poles) and CAA (without a tag).
func writable(rr dns.RR) bool {
	if _, unknown := rr.(*dns.RFC3597); unknown {
		return true
	}
	switch rr.Header().Rrtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeCNAME, dns.TypeDNAME, dns.TypeSOA, dns.TypeMX, dns.TypeTXT, dns.TypeSRV,
		dns.TypePTR, dns.TypeDS, dns.TypeTLSA, dns.TypeSSHFP, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeRP, dns.TypeURI:
		return true
	}
	return false
}

// FuzzLookup compares zones with the model, and wants replies that can be sent.
func FuzzLookup(f *testing.F) {
	for _, seed := range []string{"", "0123456789abcdefghijklmnopqrstuvwxyz", "the quick brown fox jumps over the lazy dog", "\x01\x05\x02\x00\x03\x01\x02"} {
		f.Add([]byte(strings.Repeat(seed, 4)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sameAsModel(t, func(n int) int {
			if len(data) == 0 {
				return 0
			}
			c := data[0]
			data = data[1:]
			return int(c) % n
		})
	})
}
