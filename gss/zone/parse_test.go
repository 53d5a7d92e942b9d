package zone

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// head is the start of a zone file; what a test adds begins on line 4.
const head = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\n"

// parseText reads a zone of a test.
func parseText(t testing.TB, origin, text string) *Zone {
	t.Helper()
	z, err := Parse(origin, "test.zone", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// lines are records as text, one a line with single spaces.
func lines(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, strings.Join(strings.Fields(rr.String()), " "))
	}
	return out
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for _, tc := range []struct {
		name string
		text string // after head
		want string // the errors, without "test.zone:"
	}{
		{"address", "www A 192.0.2.300\n", "4: \"192.0.2.300\" is no data of a record of type A; write it such as `www A 192.0.2.1`"},
		{"line of a record of several", "@ TXT ( \"a\"\n \"b\"\n )\nwww A (\n 192.0.2.1\n x )\n", "9: garbage after rdata: \"x\"; write it such as `www A 192.0.2.1`"},
		{"no data", "www A\n", "4: the A record of www.example.org. cannot be sent: it has no data; mend its data"},
		{"no type", "www 192.0.2.1\n", "4: not a TTL: \"192.0.2.1\"; a record is written OWNER [TTL] TYPE DATA, such as `www 300 A 192.0.2.1`"},
		{"class", "www CH TXT x\n", "4: class CH is not served; leave the class out, or write IN"},
		{"several at once", "a A x\nb A 192.0.2.1\nc AAAA 192.0.2.1\nd.example.net. A 192.0.2.1\n", `4: "x" is no data of a record of type A; write it such as ` + "`www A 192.0.2.1`" + `
6: "192.0.2.1" is no data of a record of type AAAA; write it such as ` + "`www AAAA 2001:db8::1`" + `
7: d.example.net. is outside the zone example.org.; remove the record, or look for a dot too many at the end of the name`},
		{"records below a broken one are not of the one before", "a CNAME c\nb A x\n  A 192.0.2.2\n", "5: \"x\" is no data of a record of type A; write it such as `www A 192.0.2.1`"},
		{"parenthesis not closed", "www A (\n192.0.2.1\nx A 192.0.2.1\n", "4: a parenthesis is opened here and never closed; add )"},
		{"parenthesis not opened", "www A 192.0.2.1 )\nx A y\n", "4: a parenthesis is closed that was not opened; remove ) or write \\) for the character\n" +
			"5: \"y\" is no data of a record of type A; write it such as `www A 192.0.2.1`"},
		{"quote not closed", "@ TXT \"abc\n@ TXT \"def\"\n", "4: a quote is not closed on its line; add \" at its end, and begin a new quote on the next line"},
		{"entry too long", "x TXT " + strings.Repeat("a ", maxEntry/2) + "\ny A z\n", "4: the record that begins here is longer than any can be; look for a parenthesis that is not closed\n" +
			"5: \"z\" is no data of a record of type A; write it such as `www A 192.0.2.1`"},
		{"parenthesis that swallows the file", "x TXT (\n" + strings.Repeat("a b c d e f g h\n", maxEntry/16), "4: the record that begins here is longer than any can be; look for a parenthesis that is not closed"},
		{"label too long", "a" + long + " A 192.0.2.1\n", "4: bad owner name: \"a" + long + "\"; write it such as `www A 192.0.2.1`"},
		{"name too long", strings.Repeat(long+".", 3) + "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz A 192.0.2.1\n",
			"4: \"" + strings.Repeat(long+".", 3) + "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz.example.org.\" is no domain name; labels have 1 to 63 bytes, and names up to 255 with a byte for each dot"},
		{"TTL", "www 2147483648 A 192.0.2.1\n", "4: TTL 2147483648 is more than 2147483647 (RFC 2181 section 8); an hour, 3600, is plenty"},
		{"$TTL", "$TTL 2147483648\n", "4: $TTL takes one time up to 2147483647 seconds (RFC 2181 section 8); write such as $TTL 3600"},
		{"$TTL without a number", "$TTL h\n", "4: $TTL takes one time up to 2147483647 seconds (RFC 2181 section 8); write such as $TTL 3600"},
		{"$ORIGIN", "$ORIGIN a..b\n", "4: $ORIGIN takes one domain name; write such as $ORIGIN sub.example.org."},
		{"directive", "$FOO bar\n", "4: $FOO is no directive; those are $ORIGIN, $TTL, $INCLUDE and $GENERATE"},
		{"file that is not there", "$INCLUDE nowhere.zone\n", "4: $INCLUDE: stat nowhere.zone: no such file or directory; mend the path, which is relative to this file"},
		{"device", "$INCLUDE /dev/zero\n", "4: $INCLUDE: /dev/zero is no regular file; mend the path, which is relative to this file"},
		{"two SOA", "@ SOA ns1 hostmaster 2 3600 600 86400 60\n", "2: 2 SOA records; keep one"},
		{"SOA below", "sub SOA ns1 hostmaster 2 3600 600 86400 60\n", "4: sub.example.org. is not the zone's apex example.org., which alone has an SOA record; remove it"},
		{"alias beside data", "www A 192.0.2.1\nwww CNAME web\n", "5: www.example.org. is an alias and has other records beside its CNAME (RFC 1034 section 3.6.2); keep one"},
		{"two aliases", "www CNAME a\nwww CNAME b\n", "4: www.example.org. has 2 CNAME records; keep one"},
		{"alias at the apex", "@ CNAME www\n", "4: the apex has an SOA record and cannot be an alias (RFC 1034 section 3.6.2); use address records"},
		{"circle", "a CNAME b\nb CNAME c\nc CNAME a\n", `4: the alias a.example.org. leads over more than 16 others or in a circle; name what it stands for
5: the alias b.example.org. leads over more than 16 others or in a circle; name what it stands for
6: the alias c.example.org. leads over more than 16 others or in a circle; name what it stands for`},
		{"two DNAMEs", "d DNAME a\nd DNAME b\n", "4: d.example.org. has 2 DNAME records; keep one"},
		{"name below a DNAME", "d DNAME a\nx.d A 192.0.2.1\n", "5: x.d.example.org. is below the DNAME of d.example.org., which hides it (RFC 6672 section 2.4); remove one"},
		{"DNAME beside NS", "d DNAME a\nd NS ns1\n", "4: d.example.org. has a DNAME and NS records, and one of them does not count (RFC 6672 section 2.3); keep one"},
		{"TTLs", "www 60 A 192.0.2.1\nwww 61 A 192.0.2.2\n", "5: www.example.org. has A records with TTL 60 and 61 (RFC 2181 section 5.2); give them one"},
		{"glue", "sub NS ns.sub\nsub NS ns.other.example.\n", "4: sub.example.org. is delegated to ns.sub.example.org., which nobody can ask for without its address; add its A or AAAA record (glue) here"},
		{"glue of the delegation's own name", "sub NS sub\n", "4: sub.example.org. is delegated to sub.example.org., which nobody can ask for without its address; add its A or AAAA record (glue) here"},
		{"DS without NS", "sub DS 1 13 2 " + strings.Repeat("00", 32) + "\n", "4: sub.example.org. has DS records and is no delegation; add its NS records, or remove the DS"},
		{"DS at the apex", "@ DS 1 13 2 " + strings.Repeat("00", 32) + "\n", "4: a DS record of example.org. belongs to the zone above (RFC 4034 section 5); give it to who runs that one"},
		{"MX to an alias", "mail CNAME www\n@ MX 10 mail\n", "5: the MX record of example.org. names mail.example.org., which is an alias (RFC 2181 section 10.3); name what it stands for"},
		{"NS to an alias", "mail CNAME www\n@ NS mail\n", "3: the NS record of example.org. names mail.example.org., which is an alias (RFC 2181 section 10.3); name what it stands for"},
		{"wildcard NS", "* NS ns1\n", "4: what a wildcard with NS records means is not defined (RFC 4592 section 4); write each name out"},
		{"wildcard DNAME", "*.x DNAME ns1\n", "4: what a wildcard with DNAME records means is not defined (RFC 4592 section 4); write each name out"},
		{"signature", "@ DNSKEY 257 3 13 AAAA\n@ NSEC a A\n", "4: DNSKEY records are made while the zone is served, which signs it; remove the line\n" +
			"5: NSEC records are made while the zone is served, which signs it; remove the line"},
		{"type of queries", "@ TYPE255 \\# 0\n", "4: ANY is a type of queries and no record has it (RFC 6895 section 3.1); remove the line"},
		{"length of unknown data", "@ TYPE65280 \\# 2 00\n", "4: bad RFC3597 Rdata: \"2\"; a record is written OWNER [TTL] TYPE DATA, such as `www 300 A 192.0.2.1`"},
		{"range", "$GENERATE 5-1 a$ A 192.0.2.$\n", "4: $GENERATE: \"5-1\" is no range; write START-STOP or START-STOP/STEP, such as 1-100"},
		{"endless range", "$GENERATE 0-65536 a$ A 192.0.2.1\n", "4: $GENERATE: the range 0-65536 has more than 65536 numbers; write smaller ranges"},
		{"range without record", "$GENERATE 1-2\n", "4: $GENERATE: no record after the range; write such as $GENERATE 1-100 host$ A 192.0.2.$"},
		{"first error of a range only", "$GENERATE 250-300 a$ A 192.0.2.$\n", "4: \"192.0.2.256\" is no data of a record of type A; write it such as `www A 192.0.2.1`"},
		{"base", "$GENERATE 1-2 a${0,1,z} A 192.0.2.1\n", "4: $GENERATE: ${0,1,z} is none of ${OFFSET}, ${OFFSET,WIDTH} and ${OFFSET,WIDTH,BASE} with a base of d, o, x, X, n or N"},
		{"directive of a range", "$GENERATE 1-1 $$GENERATE 1-1 h$ A 192.0.2.$\n", "4: $GENERATE: $GENERATE 1-1 h1 A 192.0.2.1 is no record; it begins with $"},
		{"escaped directive of a range", "$GENERATE 1-2 \\$TTL 5\n", "4: $GENERATE: $TTL 5 is no record; it begins with $"},
		{"below zero", "$GENERATE 1-2 a${-2} A 192.0.2.1\n", "4: $GENERATE: ${-2} makes a number below 0; begin the range later"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("example.org", "test.zone", strings.NewReader(head+tc.text))
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("%v; want errors", err)
			}
			got := strings.Split(strings.ReplaceAll(err.Error(), "test.zone:", ""), "\n")
			if diff := cmp.Diff(strings.Split(tc.want, "\n"), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestParseWholeFileErrors has files that are wrong from the start, and so many errors that not all are told.
func TestParseWholeFileErrors(t *testing.T) {
	t.Parallel()
	many := head
	for i := range 60 {
		many += fmt.Sprintf("n%d.example.net. A 192.0.2.1\n", i)
	}
	for _, tc := range []struct{ name, origin, text, want string }{
		{"empty", "example.org", "", "test.zone:1: no SOA record of example.org.; begin with one such as `@ 3600 SOA ns1 hostmaster 1 3600 600 1209600 300`"},
		{"no NS", "example.org", "@ 60 SOA ns1 hostmaster 1 3600 600 86400 60\n", "test.zone:1: no NS record of example.org.; add one such as `@ NS ns1`"},
		{"no TTL", "example.org", "@ SOA ns1 hostmaster 1 3600 600 86400 60\n",
			"test.zone:1: missing TTL with no previous value: \"SOA\"; begin the file with a line such as $TTL 3600"},
		{"no owner", "example.org", "  60 A 192.0.2.1\n", "test.zone:1: the first record has no owner; write one at the beginning of the line, such as @ for example.org."},
		{"origin", "exa..mple", "", "\"exa..mple\" is no domain name; a zone's origin is such as example.org"},
		{"origin that is a wildcard", "*.example.org", "", "the origin *.example.org. is a wildcard, which no zone can be named; name the zone after the name above"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(tc.origin, "test.zone", strings.NewReader(tc.text))
			if err == nil || err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
	_, err := Parse("example.org", "test.zone", strings.NewReader(many))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) < maxErrors || len(errs) > maxErrors+1 {
		t.Errorf("%d errors of 60 are told", len(errs))
	}
	_, err = Parse("example.org", "test.zone", io.MultiReader(strings.NewReader(head), brokenReader{}))
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("reading fails: %v", err)
	}
	if _, err := Load("example.org", "/dev/zero"); err == nil || err.Error() != "open zone file: /dev/zero is no regular file" {
		t.Errorf("a device gives %v", err)
	}
	if _, err := Load("example.org", "testdata/nowhere.zone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, fs.ErrPermission }

// recordsOf gives the lines of all records of a zone but SOA and NS, sorted.
func recordsOf(z *Zone) []string {
	var out []string
	for rr := range z.All(nil) {
		if t := rr.Header().Rrtype; t != dns.TypeSOA && t != dns.TypeNS {
			out = append(out, lines([]dns.RR{rr})...)
		}
	}
	slices.Sort(out)
	return out
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		text string // after head
		want string
	}{
		{"owners carry over", "a A 192.0.2.1\n  AAAA 2001:db8::1\n\t60 MX 1 a\n", `a.example.org. 300 IN A 192.0.2.1
			a.example.org. 300 IN AAAA 2001:db8::1
			a.example.org. 60 IN MX 1 a.example.org.`},
		{"class and TTL in both orders", "a IN 60 A 192.0.2.1\nb 1h30m in A 192.0.2.1\n", "a.example.org. 60 IN A 192.0.2.1\nb.example.org. 5400 IN A 192.0.2.1"},
		{"$TTL with units", "$TTL 1d2H\na A 192.0.2.1\nb 5 A 192.0.2.1\nc A 192.0.2.1\n", `a.example.org. 93600 IN A 192.0.2.1
			b.example.org. 5 IN A 192.0.2.1
			c.example.org. 93600 IN A 192.0.2.1`},
		{"$ORIGIN", "$ORIGIN sub\na A 192.0.2.1\n$ORIGIN deep\n@ A 192.0.2.2\n$ORIGIN example.org.\nb CNAME a.sub\n", `a.sub.example.org. 300 IN A 192.0.2.1
			b.example.org. 300 IN CNAME a.sub.example.org.
			deep.sub.example.org. 300 IN A 192.0.2.2`},
		{"comments, parentheses, line ends", "a A ( ; first\r\n  192.0.2.1 ; second )\r\n )\r\n\r\n; alone\nb TXT \"a;b\" ; c\n", `a.example.org. 300 IN A 192.0.2.1
			b.example.org. 300 IN TXT "a;b"`},
		{"no line end at the end", "a A 192.0.2.1", "a.example.org. 300 IN A 192.0.2.1"},
		{"a record twice counts once", "a A 192.0.2.1\nA A 192.0.2.1\nb MX 1 a\nb MX 1 A\nc TXT \"x\"\nc TXT \"X\"\n", `a.example.org. 300 IN A 192.0.2.1
			b.example.org. 300 IN MX 1 a.example.org.
			c.example.org. 300 IN TXT "X"
			c.example.org. 300 IN TXT "x"`},
		{"escapes", "a\\.b A 192.0.2.1\n\\065\\010 A 192.0.2.2\n\\$x A 192.0.2.3\n", `$x.example.org. 300 IN A 192.0.2.3
			a\.b.example.org. 300 IN A 192.0.2.1
			a\010.example.org. 300 IN A 192.0.2.2`},
		{"unknown types", "a TYPE65280 \\# 3 010203\na TYPE1 \\# 4 c0000201\na TYPE731 \\# 0\n", `a.example.org. 300 CLASS1 TYPE65280 \# 3 010203
			a.example.org. 300 CLASS1 TYPE731 \# 0
			a.example.org. 300 IN A 192.0.2.1`},
		{"names hidden by a delegation", "sub NS ns.sub\nns.sub A 192.0.2.1\nx.sub TXT x\n", `ns.sub.example.org. 300 IN A 192.0.2.1
			x.sub.example.org. 300 IN TXT "x"`},
		{"$GENERATE", "$TTL 60\n$GENERATE 1-3/2 h$\tA 192.0.2.$\n$GENERATE 9-10 ${-9,3} 5 CNAME $$x${1,2,x}\\$\n", `000.example.org. 5 IN CNAME $x0a$.example.org.
			001.example.org. 5 IN CNAME $x0b$.example.org.
			h1.example.org. 60 IN A 192.0.2.1
			h3.example.org. 60 IN A 192.0.2.3`},
		{"$GENERATE with data in quotes, as BIND wants it", "$GENERATE 1-1 a MX \"$ a\"\n$GENERATE 2-2 a TXT \"x$\" \"y z\"\n", `a.example.org. 300 IN MX 1 a.example.org.
			a.example.org. 300 IN TXT "x2" "y z"`},
		{"$GENERATE of nibbles", "$GENERATE 18-18 ${0,4,n}.p PTR a${0,1,N}\n", "2.1.p.example.org. 300 IN PTR a2.1.example.org."},
		{"$GENERATE with the owner before", "a A 192.0.2.1\n$GENERATE 1-2 a MX $ a\n", `a.example.org. 300 IN A 192.0.2.1
			a.example.org. 300 IN MX 1 a.example.org.
			a.example.org. 300 IN MX 2 a.example.org.`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := strings.Split(strings.ReplaceAll(tc.want, "\t", ""), "\n")
			if diff := cmp.Diff(want, recordsOf(parseText(t, "example.org", head+tc.text))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestInclude(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for file, text := range map[string]string{
		"main.zone":        head + "$ORIGIN one\n$INCLUDE parts/hosts.zone\nb A 192.0.2.2\n$INCLUDE \"parts/hosts.zone\" two.example.org.\n",
		"parts/hosts.zone": "  A 192.0.2.9\na A 192.0.2.1\n$TTL 5\n$ORIGIN elsewhere.example.org.\n$INCLUDE more.zone\n",
		"parts/more.zone":  "m A 192.0.2.3\n",
		"self.zone":        head + "$INCLUDE self.zone\n",
		"bad.zone":         head + "$INCLUDE parts/bad.zone\nx A y\n",
		"parts/bad.zone":   "\n\na A b\n",
	} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	z, err := Load("example.org", filepath.Join(dir, "main.zone"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"a.one.example.org. 300 IN A 192.0.2.1",
		"a.two.example.org. 300 IN A 192.0.2.1",
		"b.one.example.org. 300 IN A 192.0.2.2",
		"b.one.example.org. 300 IN A 192.0.2.9", // the owner before goes on into the file
		"example.org. 300 IN A 192.0.2.9",
		"m.elsewhere.example.org. 5 IN A 192.0.2.3",
	}
	if diff := cmp.Diff(want, recordsOf(z)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = Load("example.org", filepath.Join(dir, "bad.zone"))
	wantErr := dir + "/bad.zone:5: \"y\" is no data of a record of type A; write it such as `www A 192.0.2.1`\n" + dir + "/parts/bad.zone:3: \"b\" is no data of a record of type A; write it such as `www A 192.0.2.1`"
	if err == nil || err.Error() != wantErr {
		t.Errorf("got %v\nwant %s", err, wantErr)
	}
	_, err = Load("example.org", filepath.Join(dir, "self.zone"))
	if err == nil || !strings.Contains(err.Error(), "self.zone:4: $INCLUDE goes more than 7 files deep; look for a file that includes itself") {
		t.Errorf("a file that includes itself: %v", err)
	}
}

// TestBuild takes what Parse refuses and a primary may send.
func TestBuild(t *testing.T) {
	t.Parallel()
	var rrs []dns.RR
	for rr := range strings.Lines(`a. 60 SOA n. h. 1 1 1 1 1
a. 60 NS n.a.
x.a. 60 A 192.0.2.1
x.a. 50 A 192.0.2.2
c.a. 60 CNAME d.a.
d.a. 60 CNAME c.a.
a. 60 MX 1 c.a.
s.a. 60 NS n.s.a.
`) {
		r, err := dns.NewRR(rr)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, r)
	}
	z, err := Build("a", slices.Values(append(rrs, rrs[0]))) // a transfer ends with the SOA record again
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a. 60 IN MX 1 c.a.", "c.a. 60 IN CNAME d.a.", "d.a. 60 IN CNAME c.a.", "x.a. 50 IN A 192.0.2.1", "x.a. 50 IN A 192.0.2.2"}
	if diff := cmp.Diff(want, recordsOf(z)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = Build("a", slices.Values(rrs[1:]))
	if err == nil || err.Error() != "no SOA record of a.; begin with one such as `@ 3600 SOA ns1 hostmaster 1 3600 600 1209600 300`" {
		t.Errorf("without SOA: %v", err)
	}
	if _, err = Build("a", slices.Values(append(rrs, &dns.A{Hdr: dns.RR_Header{Name: "y.a.", Rrtype: dns.TypeA, Class: dns.ClassINET}}))); err == nil {
		t.Error("a record without its address is taken")
	}
}

// TestSetTooLarge has one set that fits a message of TCP just so, and one that does not.
func TestSetTooLarge(t *testing.T) {
	t.Parallel()
	text := head
	n := maxSet / (12 + 201)
	for i := range n {
		text += fmt.Sprintf("big TXT \"%0200d\"\n", i)
	}
	z := parseText(t, "example.org", text)
	m := &dns.Msg{Compress: true}
	for rr := range z.All(nil) {
		if rr.Header().Rrtype == dns.TypeTXT {
			m.Answer = append(m.Answer, rr)
		}
	}
	if wire, err := m.Pack(); err != nil || len(wire) > dns.MaxMsgSize-5000 || len(m.Answer) != n {
		t.Errorf("%d records make %d bytes: %v", len(m.Answer), len(wire), err)
	}
	_, err := Parse("example.org", "test.zone", strings.NewReader(text+fmt.Sprintf("big TXT \"%0200d\"\n", n)))
	want := fmt.Sprintf("test.zone:%d: big.example.org. has TXT records of more than %d bytes, too many for one message; remove some", 4+n, maxSet)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
