package firewall

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	chainName  = "forward"
	icmpErrors = "ICMP errors"
)

// tables are ours alone; what others keep in nftables stays as it is. One of them is in force, and the other is what the next Apply
// makes.
func tables() [2]*nftables.Table {
	return [...]*nftables.Table{
		{Name: "anycastle_fw", Family: nftables.TableFamilyINet},
		{Name: "anycastle_fw2", Family: nftables.TableFamilyINet},
	}
}

// Apply makes cfg the rules of the calling thread's network namespace. No packet that both the old rules and the new let pass is
// lost meanwhile, and none passes that neither lets pass. Counters begin anew. It needs CAP_NET_ADMIN.
//
// The kernel has packets go through a new chain as soon as it is asked for, still without rules, and commits the sets that they look
// into after the rules. So the new table comes first and drops nothing, and then drops in the moment in which the old one goes.
func Apply(cfg Config) error {
	c, err := nftables.New(nftables.WithSockOptions(enlarge))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	old, err := inForce(c)
	if err != nil {
		return err
	}
	next := tables()[0]
	if old != nil && old.Name == next.Name {
		next = tables()[1]
	}
	c.AddTable(next) // so that there is one to delete: a process may have ended half-way
	c.DelTable(next)
	accept := nftables.ChainPolicyAccept
	b := &builder{conn: c, table: c.AddTable(next), sets: map[string]*nftables.Set{}}
	b.chain = c.AddChain(&nftables.Chain{
		Name: chainName, Table: b.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &accept,
	})
	if err := b.addRules(cfg); err != nil {
		return fmt.Errorf("build firewall: %w", err)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("write firewall to nftables: %w", err)
	}
	if err := b.addDrops(cfg); err != nil {
		return fmt.Errorf("build firewall: %w", err)
	}
	if old != nil {
		c.DelTable(old)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("put firewall in force: %w", err)
	}
	return nil
}

// inForce gives the table whose rules hold; nil when there is none. One that a process left half-way has no last rule.
func inForce(c *nftables.Conn) (*nftables.Table, error) {
	list, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	var found *nftables.Table
	for _, t := range tables() {
		if !slices.ContainsFunc(list, func(have *nftables.Table) bool { return have.Name == t.Name }) {
			continue
		}
		rules, err := c.GetRules(t, &nftables.Chain{Name: chainName})
		if err != nil {
			return nil, fmt.Errorf("list firewall rules: %w", err)
		}
		whole := len(rules) > 0 && comment(rules[len(rules)-1]) == noZone
		if whole || found == nil && t.Name == tables()[0].Name { // the first, of a former version, has no such rule
			found = t
		}
	}
	return found, nil
}

func comment(r *nftables.Rule) string {
	text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
	return text
}

// enlarge makes room for the kernel's answers, one to each rule, which come all at once when the transaction ends.
func enlarge(c *netlink.Conn) error {
	const size = 8 << 20
	return errors.Join(c.SetReadBuffer(size), c.SetWriteBuffer(size))
}

// Remove takes the rules away; everything is passed on again. It is no error when there are none, or no nftables.
func Remove() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	list, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil // a kernel without nftables has no rules of ours either
	}
	for _, t := range tables() {
		if slices.ContainsFunc(list, func(have *nftables.Table) bool { return have.Name == t.Name }) {
			c.DelTable(t)
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove firewall: %w", err)
	}
	return nil
}

// builder collects what a table has.
type builder struct {
	conn  *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
	sets  map[string]*nftables.Set // of interfaces, by their zones
	last  uint32                   // number of the last set: the library would count in a variable of its own, which nothing guards
}

// number gives a set its number within the transaction.
func (b *builder) number() uint32 {
	b.last++
	return b.last
}

func (b *builder) addRules(cfg Config) error {
	b.addReturns(cfg)
	b.addErrors()
	for i, r := range cfg.Allow {
		from, err := b.zoneSet(cfg, r.From)
		if err != nil {
			return err
		}
		to, err := b.zoneSet(cfg, r.To)
		if err != nil {
			return err
		}
		for _, version := range r.families() {
			for _, s := range r.shapes(version) {
				in, out := from, to
				if s.back {
					in, out = to, from
				}
				if err := b.addAllow(label{rule: i + 1, back: s.back, text: r.String()}, in, out, s); err != nil {
					return err
				}
			}
		}
	}
	for zone := range cfg.Zones { // those of the drops
		if _, err := b.zoneSet(cfg, []string{zone}); err != nil {
			return err
		}
	}
	return nil
}

// addReturns drops what would leave by the only interface of the zone that it came from. Two routers that take each other for
// the way to somewhere would hand it to and fro until its TTL ends, and have time for nothing else.
func (b *builder) addReturns(cfg Config) {
	for _, zone := range slices.Sorted(maps.Keys(cfg.Zones)) {
		if cfg.returns(zone, zone) {
			name := ifName(cfg.Zones[zone][0])
			b.add(label{from: zone, to: zone}, expr.VerdictDrop, append(equal(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, name...),
				equal(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, name...)...)...)
		}
	}
}

func ifName(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

// noZone is the comment of the last rule.
const noZone = "what is of no zone"

// addDrops counts what no rule has let pass, by its zones. All else goes as well: what comes by an interface of no zone.
func (b *builder) addDrops(cfg Config) error {
	names := slices.Sorted(maps.Keys(cfg.Zones))
	for _, from := range names {
		in, err := b.zoneSet(cfg, []string{from})
		if err != nil {
			return err
		}
		for _, to := range names {
			if cfg.returns(from, to) {
				continue
			}
			out, err := b.zoneSet(cfg, []string{to})
			if err != nil {
				return err
			}
			b.add(label{from: from, to: to}, expr.VerdictDrop, between(in, out)...)
		}
	}
	b.add(label{text: noZone}, expr.VerdictDrop)
	return nil
}

// zoneSet gives the set of all interfaces of some zones, made once.
func (b *builder) zoneSet(cfg Config, zones []string) (*nftables.Set, error) {
	name := strings.Join(zones, "_") // which no name of a zone has in it
	if set := b.sets[name]; set != nil {
		return set, nil
	}
	set := &nftables.Set{Table: b.table, ID: b.number(), Name: name, Constant: true, KeyType: nftables.TypeIFName}
	var elements []nftables.SetElement
	for _, zone := range zones {
		for _, name := range cfg.Zones[zone] {
			elements = append(elements, nftables.SetElement{Key: ifName(name)})
		}
	}
	b.sets[name] = set
	return set, b.conn.AddSet(set, elements)
}

// rangeSet makes a set of addresses or ports.
func (b *builder) rangeSet(key nftables.SetDatatype, spans []span) (*nftables.Set, error) {
	set := &nftables.Set{
		Table: b.table, ID: b.number(), Name: "__set%d", Anonymous: true, Constant: true, Interval: true, KeyType: key, KeyByteOrder: binaryutil.BigEndian,
	}
	var elements []nftables.SetElement
	for _, s := range merge(spans) {
		elements = append(elements, nftables.SetElement{Key: s.first})
		if after, ok := next(s.last); ok { // a range up to the last value has no end
			elements = append(elements, nftables.SetElement{Key: after, IntervalEnd: true})
		}
	}
	return set, b.conn.AddSet(set, elements)
}

// between fits what comes in by one set of interfaces and goes out by another.
func between(in, out *nftables.Set) []expr.Any {
	return append(inSet(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, in),
		inSet(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, out)...)
}

func inSet(load expr.Any, set *nftables.Set) []expr.Any {
	return []expr.Any{load, &expr.Lookup{SourceRegister: 1, SetID: set.ID, SetName: set.Name}}
}

// addAllow writes one shape of a rule.
func (b *builder) addAllow(l label, in, out *nftables.Set, s shape) error {
	exprs := append(between(in, out), equal(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, s.nfproto())...)
	for _, m := range s.ranges() {
		set, err := b.rangeSet(m.key, m.spans)
		if err != nil {
			return err
		}
		exprs = append(exprs, inSet(m.load, set)...)
	}
	b.add(l, expr.VerdictAccept, append(exprs, s.exact()...)...)
	return nil
}

// addErrors lets ICMP errors pass: destination unreachable, time exceeded, parameter problem and packet too big.
func (b *builder) addErrors() {
	for _, family := range []struct {
		proto, icmp byte
		types       []byte
	}{
		{unix.NFPROTO_IPV4, unix.IPPROTO_ICMP, []byte{3, 11, 12}},
		{unix.NFPROTO_IPV6, unix.IPPROTO_ICMPV6, []byte{1, 2, 3, 4}},
	} {
		for _, kind := range family.types {
			exprs := append(equal(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, family.proto),
				equal(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, family.icmp)...)
			b.add(label{text: icmpErrors}, expr.VerdictAccept, append(exprs, equal(transport(0, 1), kind)...)...)
		}
	}
}

// add appends a rule that counts what it takes.
func (b *builder) add(l label, verdict expr.VerdictKind, exprs ...expr.Any) {
	b.conn.AddRule(&nftables.Rule{
		Table: b.table, Chain: b.chain, UserData: userdata.AppendString(nil, userdata.TypeComment, l.comment()),
		Exprs: append(exprs, &expr.Counter{}, &expr.Verdict{Kind: verdict}),
	})
}

func equal(load expr.Any, value ...byte) []expr.Any {
	return []expr.Any{load, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
}

func transport(offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}
