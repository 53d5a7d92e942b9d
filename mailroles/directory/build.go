package directory

import (
	"anycastle/internal/config"
)

// builder checks a mailboxes file and makes a table of it.
type builder struct {
	table                      *table
	luns                       []string
	mailboxes, aliases, groups config.Cursor

	places map[string]place // where an address stands in the file
	perLUN map[string]int
	order  []string // addresses of aliases and groups, as they stand in the file
}

// place is where the targets of an alias or a group stand; of a mailbox it has no list.
type place struct {
	at    config.Cursor
	reach int // entries that it leads through, itself included; 0: not counted yet, or being counted when open
	open  bool
}

// address checks an address and that it is there once. It gives its normal form.
func (b *builder) address(at config.Cursor, address string) (string, bool) {
	normal, ok := Normalize(address)
	if !ok {
		at.Key("address").Errorf("%q is no mailbox address; write one such as alice@example.org", address)
		return "", false
	}
	if _, ok := b.table.entries[normal]; ok {
		at.Key("address").Errorf("%s is there twice; keep one", normal)
		return "", false
	}
	b.table.domains[domainOf(normal)] = true
	return normal, true
}

func (b *builder) mailbox(at config.Cursor, m FileMailbox) {
	address, ok := b.address(at, m.Address)
	if !ok {
		return
	}
	e := &entry{kind: aMailbox, hash: m.Password}
	e.box = Mailbox{Address: address, LUN: m.LUN, Quota: Quota{int64(m.Quota.Size), m.Quota.Messages}, Disabled: m.Disabled}
	if checkHash(m.Password) != nil {
		// the value is not repeated: it may be a password that was meant to be hashed
		at.Key("password").Errorf("no argon2id hash in PHC form and no bcrypt hash within bounds; " +
			"make one with `anycastle mail hash-password`")
	}
	if m.SCRAM != "" {
		keys, err := ParseKeys(m.SCRAM)
		if err != nil {
			at.Key("scram").Errorf("no SCRAM-SHA-256 keys as in RFC 5803; " +
				"make some with `anycastle mail user passwd`, or remove the key")
		}
		e.keys = &keys
	}
	if m.Quota.Messages < 0 {
		at.Key("quota").Key("messages").Errorf("%d must not be below 0, which is no bound", m.Quota.Messages)
	}
	for i, as := range m.SendAs {
		normal, ok := Normalize(as)
		if !ok {
			at.Key("send_as").Index(i).Errorf("%q is no address; write one such as info@example.org", as)
		}
		e.sendAs = append(e.sendAs, normal)
	}
	if !knownLUN(b.luns, m.LUN) || m.LUN == "" {
		at.Key("lun").Errorf("no LUN is called %q; known are %s", m.LUN, lunNames(b.luns))
	}
	if b.perLUN[m.LUN]++; b.perLUN[m.LUN] == MaxPerLUN+1 {
		at.Errorf("LUN %s has more than %d mailboxes; move this and later ones to another LUN", m.LUN, MaxPerLUN)
	}
	b.table.entries[address] = e
	b.places[address] = place{reach: 1}
}

// leads takes an alias or a group, whose targets follow checks.
func (b *builder) leads(at config.Cursor, key, address string, to []string, e *entry) {
	normal, ok := b.address(at, address)
	if !ok {
		return
	}
	if len(to) == 0 {
		at.Key(key).Errorf("leads to no address; list at least one, or remove the entry")
	}
	e.to = append(e.to, to...)
	b.table.entries[normal] = e
	b.places[normal] = place{at: at.Key(key)}
	b.order = append(b.order, normal)
}

// follow checks where aliases and groups lead, when all addresses are known.
func (b *builder) follow() {
	for _, address := range b.order {
		b.targets(address)
	}
	for _, address := range b.order {
		b.reach(address)
	}
}

func (b *builder) targets(address string) {
	e, at := b.table.entries[address], b.places[address].at
	known := e.to[:0]
	for i, to := range e.to {
		normal, ok := Normalize(to)
		_, there := b.table.entries[normal]
		switch {
		case !ok:
			at.Index(i).Errorf("%q is no address; write one such as alice@example.org", to)
		case !b.table.domains[domainOf(normal)]:
			at.Index(i).Errorf("%s is at another domain; mail is not forwarded there, so name an address of this file", normal)
		case !there:
			at.Index(i).Errorf("%s is no mailbox, alias or group of this file; add it, or remove it here", normal)
		default:
			known = append(known, normal)
		}
	}
	e.to = known
}

// reach counts what an address leads to, and reports circles and what is more than MaxReach.
func (b *builder) reach(address string) int {
	p := b.places[address]
	if p.reach > 0 {
		return p.reach
	}
	p.open = true
	b.places[address] = p
	sum := 1
	for i, to := range b.table.entries[address].to {
		if b.places[to].open {
			p.at.Index(i).Errorf("%s leads back to %s; break the circle", to, address)
			continue
		}
		sum += b.reach(to)
	}
	if sum > MaxReach {
		p.at.Errorf("leads through more than %d addresses; split it", MaxReach)
		sum = MaxReach // said once, and not of all that lead here
	}
	p.open, p.reach = false, sum
	b.places[address] = p
	return sum
}
