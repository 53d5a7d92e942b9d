package zone

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

const (
	maxDepth = 7         // of $INCLUDE
	maxFiles = 1000      // that one zone includes
	maxTTL   = 1<<31 - 1 // seconds (RFC 2181 section 8)
)

// Load reads the zone file of a zone. See Parse.
func Load(origin, file string) (*Zone, error) {
	f, err := openRegular(file)
	if err != nil {
		return nil, fmt.Errorf("open zone file: %w", err)
	}
	defer f.Close()
	return Parse(origin, file, f)
}

// Parse reads a zone file (RFC 1035 section 5) from r. The file's name stands in errors, and $INCLUDE is relative to its
// folder. Directives are $ORIGIN, $TTL (RFC 2308 section 4), $INCLUDE and $GENERATE; what $ORIGIN and $TTL set in an
// included file ends with it. Records of all types are taken, also as RFC 3597 writes unknown ones, but for those of a
// signed zone. A record that stands there twice counts once.
//
// What is wrong with the zone comes as Errors; another error is one of reading.
func Parse(origin, file string, r io.Reader) (*Zone, error) {
	return parse(origin, file, r, openRegular)
}

// Build makes a zone of the records of a transfer, in any order. It does not refuse what only makes a zone useless in
// part and is its primary's to mend: aliases that lead in circles, targets of MX, NS and SRV records that are aliases,
// missing glue, names below a DNAME. If TTLs in a set differ, the lowest counts.
func Build(origin string, records iter.Seq[dns.RR]) (*Zone, error) {
	b, err := newBuilder(origin, false)
	if err != nil {
		return nil, err
	}
	for rr := range records {
		if b.errs.full() {
			break
		}
		b.add(rr, pos{file: math.MaxUint16})
	}
	return b.finish()
}

// openRegular opens a zone file, or one that is included. A device or a pipe could keep the caller waiting forever.
func openRegular(file string) (io.ReadCloser, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", file)
	}
	return os.Open(file)
}

// parser reads a zone file and those that it includes.
type parser struct {
	b    *builder
	open func(file string) (io.ReadCloser, error)
	buf  []byte
}

func parse(origin, file string, r io.Reader, open func(string) (io.ReadCloser, error)) (*Zone, error) {
	b, err := newBuilder(origin, true)
	if err != nil {
		return nil, err
	}
	p := &parser{b: b, open: open}
	b.errs.files = append(b.errs.files, file)
	f := &source{parser: p, path: file, origin: b.origin, owner: "", ttl: -1}
	if err := f.read(r); err != nil {
		return nil, err
	}
	return b.finish()
}

// source is one file while it is read.
type source struct {
	*parser
	path   string
	at     pos
	depth  int
	origin string // absolute
	owner  string // of the record before, absolute; "" at first
	ttl    int64  // of records that have none; -1 when not known
	fixed  bool   // ttl is that of $TTL
}

// read gives an error only if reading fails.
func (f *source) read(r io.Reader) error {
	s := newScanner(r)
	for !f.b.errs.full() {
		text, line, wrong, ok := s.next()
		if !ok {
			break
		}
		f.at.line = line
		switch {
		case wrong != "":
			f.errorf("%s", wrong)
		case text[0] == '$':
			f.directive(text)
		default:
			f.record(text)
		}
	}
	if s.err != nil && s.err != io.EOF {
		return fmt.Errorf("read zone file %s: %w", f.path, s.err)
	}
	return nil
}

func (f *source) errorf(format string, args ...any) { f.b.errs.addf(f.at, format, args...) }

// record parses one record.
func (f *source) record(text []byte) {
	if text[0] == ' ' || text[0] == '\t' {
		if f.owner == "" {
			f.errorf("the first record has no owner; write one at the beginning of the line, such as @ for %s", f.origin)
			return
		}
		f.buf = append(append(f.buf[:0], f.owner...), text...)
		text = f.buf
	}
	zp := dns.NewZoneParser(bytes.NewReader(text), f.origin, "")
	if f.ttl >= 0 {
		zp.SetDefaultTTL(uint32(f.ttl))
	}
	rr, ok := zp.Next()
	if ok {
		zp.Next() // nothing; but an error if there is more than a record
	}
	if err := zp.Err(); err != nil || !ok {
		f.syntaxError(err, text)
		return
	}
	f.owner = rr.Header().Name
	if !f.fixed {
		f.ttl = int64(rr.Header().Ttl)
	}
	f.b.add(rr, f.at)
}

// syntaxError reports what the parser of miekg/dns says, at its line.
func (f *source) syntaxError(err error, text []byte) {
	if i := bytes.IndexAny(text, " \t\r\n"); i > 0 {
		f.owner = absolute(string(text[:i]), f.origin) // so that records below it do not go to the owner before
	}
	what, at := "no record", f.at
	if err != nil {
		var n int
		if what, n = Complaint(err); n > 0 {
			at.line += uint32(n) - 1
		}
	}
	f.b.errs.addf(at, "%s; %s", what, mend(what, text))
}

// complaint is the form of most errors of miekg/dns: the type, the field, which is called as the type if it is the only one, and
// what stands there.
var complaint = regexp.MustCompile(`^bad (\S+) (.+): (".*")$`)

// Complaint says what an error of miekg/dns is about that came of text with a record, and in which line of it, from 1; 0: it does
// not say.
func Complaint(err error) (what string, line int) {
	what = strings.TrimPrefix(err.Error(), "dns: ")
	if i := strings.LastIndex(what, " at line: "); i >= 0 {
		number, _, _ := strings.Cut(what[i+len(" at line: "):], ":")
		if n, err := strconv.Atoi(number); err == nil {
			what, line = what[:i], n
		}
	}
	m := complaint.FindStringSubmatch(what)
	switch {
	case m == nil || dns.StringToType[m[1]] == dns.TypeNone:
	case m[1] == m[2]:
		what = fmt.Sprintf("%s is no data of a record of type %s", m[3], m[1])
	default:
		what = fmt.Sprintf("%s is no data of a record of type %s, as its %s", m[3], m[1], m[2])
	}
	return what, line
}

func absolute(owner, origin string) string {
	switch {
	case owner == "@":
		return origin
	case dns.IsFqdn(owner):
		return owner
	case origin == ".":
		return owner + "."
	}
	return owner + "." + origin
}

// examples show what records of common types look like.
var examples = map[string]string{
	"A": "www A 192.0.2.1", "AAAA": "www AAAA 2001:db8::1", "CAA": `@ CAA 0 issue "example.net"`, "CNAME": "ftp CNAME www",
	"DNAME": "old DNAME new", "DS": "sub DS 12345 13 2 0123ABCD...", "HTTPS": "@ HTTPS 1 . alpn=h2", "MX": "@ MX 10 mail",
	"NS": "@ NS ns1", "PTR": "1 PTR www.example.org.", "SOA": "@ SOA ns1 hostmaster 1 3600 600 1209600 300",
	"SRV": "_imaps._tcp SRV 0 1 993 imap", "SVCB": "_dns SVCB 1 ns1 alpn=dot", "TLSA": "_25._tcp.mail TLSA 3 1 1 0123ABCD...",
	"TXT": `@ TXT "v=spf1 -all"`,
}

// mend says how to write the record that text tries to be.
func mend(what string, text []byte) string {
	if strings.HasPrefix(what, "missing TTL") {
		return "begin the file with a line such as $TTL 3600"
	}
	for i, word := range strings.Fields(string(text[:min(len(text), 2*maxKey)])) {
		if example, ok := examples[strings.ToUpper(word)]; ok && i > 0 {
			return "write it such as `" + example + "`"
		}
	}
	return "a record is written OWNER [TTL] TYPE DATA, such as `www 300 A 192.0.2.1`"
}

// parseTTL reads a TTL of a zone file: seconds, or numbers with the units that BIND has, such as 1h30m.
func parseTTL(s string) (int64, bool) {
	units := map[byte]int64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 7 * 86400}
	var sum, number int64
	digits := false
	for i := range len(s) {
		if '0' <= s[i] && s[i] <= '9' {
			number, digits = 10*number+int64(s[i]-'0'), true
		} else {
			unit, ok := units[lower(s[i])]
			if !ok || !digits {
				return 0, false
			}
			sum, number, digits = sum+number*unit, 0, false
		}
		if sum+number > maxTTL {
			return 0, false
		}
	}
	return sum + number, len(s) > 0
}

// includePath is where a file is that one includes.
func includePath(from, to string) string {
	if filepath.IsAbs(to) {
		return to
	}
	return filepath.Join(filepath.Dir(from), to)
}
