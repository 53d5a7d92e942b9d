package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestAddRefuses(t *testing.T) {
	const name = "mx.example.org."
	good := reply{answer: []string{name + " 5 A 192.0.2.1"}}.wire(t, name, dns.TypeA)
	change := func(f func(m *dns.Msg)) []Variant {
		var m dns.Msg
		check(t, m.Unpack(good))
		f(&m)
		return []Variant{{Plain: pack(t, &m)}}
	}
	patch := func(at int, b ...byte) []Variant {
		wire := slices.Clone(good)
		copy(wire[at:], b)
		return []Variant{{Plain: wire}}
	}
	ok := []Variant{{Plain: good}}
	long := strings.Repeat("a.", 130)
	for _, tc := range []struct {
		name, owner string
		qtype       uint16
		class       int
		entry       Entry
		want        error
	}{
		{"no variants", name, dns.TypeA, 0, Entry{}, ErrEntry},
		{"two of Fixed", name, dns.TypeA, 0, Entry{Fixed, append(ok, ok...)}, ErrEntry},
		{"method", name, dns.TypeA, 0, Entry{Hashed + 1, ok}, ErrEntry},
		{"no weight", name, dns.TypeA, 0, Entry{Weighted, ok}, ErrEntry},
		{"no weight to hash", name, dns.TypeA, 0, Entry{Hashed, ok}, ErrEntry},
		{"too much weight", name, dns.TypeA, 0, Entry{Weighted,
			[]Variant{{Plain: good, Weight: 1 << 31}, {Plain: good, Weight: 1 << 31}}}, ErrEntry},
		{"two of one key", name, dns.TypeA, 0, Entry{Hashed,
			[]Variant{{Plain: good, Weight: 1}, {Plain: good, Weight: 1}}}, ErrEntry},
		{"negative class", name, dns.TypeA, -1, Entry{Fixed, ok}, ErrClass},
		{"class out of range", name, dns.TypeA, MaxClass + 1, Entry{Fixed, ok}, ErrClass},
		{"name too long", long, dns.TypeA, 0, Entry{Fixed, ok}, ErrEntry},
		{"empty label", "a..example.org.", dns.TypeA, 0, Entry{Fixed, ok}, ErrEntry},
		{"OPT", name, dns.TypeOPT, 0, Entry{Fixed, ok}, ErrEntry},
		{"AXFR", name, dns.TypeAXFR, 0, Entry{Fixed, ok}, ErrEntry},
		{"type 0", name, 0, 0, Entry{Fixed, ok}, ErrEntry},
		{"another name's reply", "a.example.org.", dns.TypeA, 0, Entry{Fixed, ok}, ErrEntry},
		{"another type's reply", name, dns.TypeAAAA, 0, Entry{Fixed, ok}, ErrEntry},
		{"another class's reply", name, dns.TypeA, 0, Entry{Fixed, change(func(m *dns.Msg) {
			m.Question[0].Qclass = dns.ClassCHAOS
		})}, ErrEntry},
		{"no reply", name, dns.TypeA, 0, Entry{Fixed, []Variant{{}}}, ErrEntry},
		{"query", name, dns.TypeA, 0, Entry{Fixed, change(func(m *dns.Msg) { m.Response = false })}, ErrEntry},
		{"opcode", name, dns.TypeA, 0, Entry{Fixed, change(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify })}, ErrEntry},
		{"TC", name, dns.TypeA, 0, Entry{Fixed, change(func(m *dns.Msg) { m.Truncated = true })}, ErrEntry},
		{"OPT in the reply", name, dns.TypeA, 0, Entry{Fixed, change(func(m *dns.Msg) {
			m.SetEdns0(1232, false)
		})}, ErrEntry},
		{"two questions", name, dns.TypeA, 0, Entry{Fixed, change(func(m *dns.Msg) {
			m.Question = append(m.Question, m.Question[0])
		})}, ErrEntry},
		{"more records counted than there are", name, dns.TypeA, 0, Entry{Fixed, patch(9, 1)}, ErrEntry},
		{"fewer records counted than there are", name, dns.TypeA, 0, Entry{Fixed, patch(6, 0, 0)}, ErrEntry},
		{"record that ends early", name, dns.TypeA, 0, Entry{Fixed, []Variant{{Plain: good[:len(good)-1]}}}, ErrEntry},
		{"name of a record that ends early", name, dns.TypeA, 0, Entry{Fixed,
			[]Variant{{Plain: append(good[:32:32], 5, 'a')}}}, ErrEntry},
		{"unknown kind of label", name, dns.TypeA, 0, Entry{Fixed, patch(32, 0x80)}, ErrEntry},
		{"signed reply of another name", name, dns.TypeA, 0, Entry{Fixed, []Variant{{Plain: good,
			Signed: reply{}.wire(t, "other.example.org.", dns.TypeA)}}}, ErrEntry},
		{"too many options", name, dns.TypeA, 0, Entry{Fixed, []Variant{{Plain: good,
			Options: append([]byte{0, 15, 0, 125}, make([]byte, 125)...)}}}, ErrEntry},
		{"malformed options", name, dns.TypeA, 0, Entry{Fixed, []Variant{{Plain: good, Options: []byte{0, 15, 0, 2, 0}}}}, ErrEntry},
		{"stub of an option", name, dns.TypeA, 0, Entry{Fixed, []Variant{{Plain: good, Options: []byte{0, 15, 0}}}}, ErrEntry},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBuilder(t, Config{})
			if err := b.Add(tc.owner, tc.qtype, tc.class, tc.entry); !errors.Is(err, tc.want) {
				t.Errorf("error is %v", err)
			}
			if n := build(t, b).Len(); n != 0 {
				t.Errorf("%d entries after an error", n)
			}
		})
	}
}

func TestAddAndRemove(t *testing.T) {
	const name = "mx.example.org."
	b := newBuilder(t, Config{})
	add := func(variant int) error {
		return b.Add("MX.example.org", dns.TypeA, 0, Entry{Variants: variants(t, name, 0, 0)[variant : variant+1]})
	}
	check(t, add(0))
	if err := add(1); !errors.Is(err, ErrDuplicate) {
		t.Errorf("a second entry: %v", err)
	}
	before := build(t, b)
	if b.Remove(name, dns.TypeAAAA, 0) || b.Remove(name, dns.TypeA, 1) || b.Remove("a..b", dns.TypeA, 0) {
		t.Error("Remove takes out what is not there")
	}
	if !b.Remove(name, dns.TypeA, 0) || b.Remove(name, dns.TypeA, 0) {
		t.Error("Remove takes out nothing, or twice")
	}
	if n := build(t, b).Len(); n != 0 {
		t.Errorf("%d entries left", n)
	}
	check(t, add(1))
	after, query := build(t, b), question(t, name, dns.TypeA)
	c := client("192.0.2.1")
	if a, b := which(t, ask(t, before, c, query)), which(t, ask(t, after, c, query)); a != 0 || b != 1 {
		t.Errorf("variants before and after are %d and %d", a, b)
	}
}

// TestNamesOfAllKinds has names at their limits and with odd octets found, and no other.
func TestNamesOfAllKinds(t *testing.T) {
	label := strings.Repeat("a", 63)
	names := []string{".", "a.", "ab.example.", `\000.example.`, `\065.example.`, `.`, `\255\128x.example.`,
		`[{@` + "`" + `.example.`,
		label + "." + label + "." + label + "." + label[:61] + "."}
	b := newBuilder(t, Config{})
	for _, name := range names {
		err := b.Add(name, dns.TypeA, 0, reply{answer: []string{"x. 5 A 192.0.2.1"}}.fixed(t, name, dns.TypeA))
		if err != nil && !errors.Is(err, ErrDuplicate) {
			t.Errorf("%q: %v", name, err)
		}
	}
	table, c := build(t, b), client("192.0.2.1")
	if got := table.Len(); got != len(names)-1 { // the root is there twice, and \065 is A
		t.Errorf("%d names, want %d", got, len(names)-1)
	}
	for _, name := range append(names, "A.", "AB.EXAMPLE.", `a.example.`) {
		if ask(t, table, c, question(t, name, dns.TypeA)) == nil {
			t.Errorf("%q is not found", name)
		}
	}
	for _, name := range []string{"b.", label + ".", `\223\128x.example.`, `{[@` + "`" + `.example.`,
		`[{` + "``" + `.example.`, `;{@` + "`" + `.example.`} {
		if ask(t, table, c, question(t, name, dns.TypeA)) != nil {
			t.Errorf("%q is found", name)
		}
	}
}

// manyNames gives a table of that many names, each with A and AAAA, and the names in wire form.
func manyNames(t testing.TB, count, signature int) (table *Table, names [][]byte) {
	t.Helper()
	b := newBuilder(t, Config{})
	be := binary.BigEndian
	for i := range count {
		name := fmt.Sprintf("host%d.example.org.", i)
		var wire [255]byte
		n, err := dns.PackDomainName(name, wire[:], 0, nil, false)
		check(t, err)
		names = append(names, slices.Clone(wire[:n]))
		for _, v := range []struct {
			qtype uint16
			size  int
		}{{dns.TypeA, 4}, {dns.TypeAAAA, 16}} {
			record := func(to []byte, rrtype uint16, size int) []byte {
				to = append(to, 0xc0, 0x0c)
				to = be.AppendUint16(be.AppendUint16(to, rrtype), 1)
				to = be.AppendUint16(be.AppendUint32(to, 60), uint16(size))
				return append(to, make([]byte, size)...)
			}
			reply := append([]byte{0, 0, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0}, wire[:n]...)
			reply = record(be.AppendUint16(be.AppendUint16(reply, v.qtype), 1), v.qtype, v.size)
			variant := Variant{Plain: reply}
			if signature > 0 {
				variant.Signed = record(slices.Clone(reply), dns.TypeRRSIG, signature)
				variant.Signed[7]++
			}
			check(t, b.Add(name, v.qtype, 0, Entry{Variants: []Variant{variant}}))
		}
	}
	return build(t, b), names
}

// signatureSize is that of the data of an RRSIG by a P-256 key in example.org.
const signatureSize = 18 + 13 + 64

func TestSizeOfHundredThousandNames(t *testing.T) {
	table, names := manyNames(t, 100_000, signatureSize)
	if table.Len() != 200_000 || table.Size() > 60<<20 {
		t.Errorf("%d entries in %d octets, want 200000 in at most 60 MiB", table.Len(), table.Size())
	}
	c := client("192.0.2.1")
	query := append([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, names[77_777]...)
	if ask(t, table, c, append(query, 0, 28, 0, 1)) == nil {
		t.Error("one of the names is not found")
	}
}
