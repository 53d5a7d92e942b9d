package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// ldapSource asks LDAP servers, and keeps what they said for a while.
type ldapSource struct {
	cfg     LDAPConfig
	luns    []string
	log     *slog.Logger
	domains map[string]bool
	seed    []byte
	search  *pool
	logins  *pool
	cache   *cache

	mu      sync.Mutex
	changed chan struct{} // closed when answers may have changed
	over    string        // which LUNs have too many mailboxes
	failure error         // why the last search had no answer; nil when it had one
}

func newLDAP(cfg LDAPConfig, luns []string, log *slog.Logger) (*ldapSource, error) {
	s := &ldapSource{cfg: cfg, luns: luns, log: log, domains: map[string]bool{}, changed: make(chan struct{})}
	for _, d := range cfg.Domains {
		normal, ok := normalDomain(d)
		if !ok {
			return nil, fmt.Errorf("directory: %q is no domain", d)
		}
		s.domains[normal] = true
	}
	var err error
	if s.seed, err = ldapSeed(cfg); err != nil {
		return nil, err
	}
	s.search, s.logins = newPool(cfg, true, log), newPool(cfg, false, log)
	s.cache = newCache(cfg.Cache, cfg.CacheUnknown, cfg.Stale)
	return s, nil
}

// local implements source.
func (s *ldapSource) local(domain string) bool { return s.domains[domain] }

// find implements source.
func (s *ldapSource) find(ctx context.Context, address string, sure bool) (*entry, error) {
	if e, ok := s.cache.get(address); ok && !sure {
		if e == nil {
			return nil, ErrUnknown
		}
		return e, nil
	}
	e, _, err := s.ask(ctx, address)
	if err == nil || errors.Is(err, ErrUnknown) {
		return e, err
	}
	if sure {
		return nil, err
	}
	if old, ok := s.cache.stale(address); ok {
		return old, nil
	}
	return nil, err
}

// ask asks for what is under an address, and gives the DN too.
func (s *ldapSource) ask(ctx context.Context, address string) (e *entry, dn string, err error) {
	found, err := s.entries(ctx, s.cfg.Base, ldap.ScopeWholeSubtree, s.filter(address))
	if err != nil {
		return nil, "", err
	}
	switch len(found) {
	case 0:
		s.cache.put(address, nil)
		return nil, "", ErrUnknown
	case 1:
	default:
		return nil, "", fmt.Errorf("directory: LDAP has %s at %s and at %s", address, found[0].DN, found[1].DN)
	}
	if s.isGroup(found[0]) {
		e, err = s.group(ctx, found[0])
	} else {
		e, err = s.box(found[0])
	}
	if err != nil {
		return nil, "", err
	}
	if e.kind == aMailbox && e.box.Address != address {
		s.cache.put(e.box.Address, e)
		e = &entry{kind: anAlias, to: []string{e.box.Address}}
	}
	s.cache.put(address, e)
	return e, found[0].DN, nil
}

// filter matches the entries that have an address.
func (s *ldapSource) filter(address string) string {
	var b strings.Builder
	value := ldap.EscapeFilter(address)
	b.WriteString("(&" + s.cfg.Filter + "(|")
	for _, name := range append([]string{s.cfg.Attributes.Address}, s.cfg.Attributes.Alias...) {
		b.WriteString("(" + name + "=" + value + ")")
	}
	return b.String() + "))"
}

// entries searches. Two are enough to see that there is more than one. An entry that is asked for itself may be gone; when
// what is searched below is, the server lacks everything, or shows us nothing, and nobody is unknown for that.
func (s *ldapSource) entries(ctx context.Context, base string, scope int, filter string) ([]*ldap.Entry, error) {
	a := s.cfg.Attributes
	names := append([]string{a.Address}, a.Alias...)
	for _, name := range []string{a.LUN, a.QuotaSize, a.QuotaMessages, a.SendAs, a.SCRAM, a.Member, a.MemberAddress, a.From} {
		if name != "" {
			names = append(names, name)
		}
	}
	var found []*ldap.Entry
	err := s.search.do(ctx, func(conn *ldap.Conn) error {
		req := ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 2, s.seconds(), false, filter, names, nil)
		res, err := conn.Search(req)
		if res != nil {
			found = res.Entries
		}
		switch {
		case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) && scope == ldap.ScopeBaseObject:
			found = nil
			return nil
		case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) && len(found) == 2:
			return nil
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("search in LDAP below %s: %w", base, err)
	}
	s.searched(ctx, err)
	if err != nil {
		return nil, err
	}
	return found, nil
}

// searched notes how a search ended. That the asker gave up is not the server's doing.
func (s *ldapSource) searched(ctx context.Context, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.failure == nil {
		s.log.Error("LDAP gives no answers", "err", err)
	}
	s.failure = err
}

// seconds is for how long a server may look for an answer.
func (s *ldapSource) seconds() int { return int((s.cfg.Timeout + time.Second - 1) / time.Second) }

func values(e *ldap.Entry, name string) []string {
	if name == "" {
		return nil
	}
	return e.GetEqualFoldAttributeValues(name)
}

func (s *ldapSource) isGroup(e *ldap.Entry) bool {
	return len(values(e, s.cfg.Attributes.Member))+len(values(e, s.cfg.Attributes.MemberAddress)) > 0
}

// box makes the mailbox of an entry. What is wrong with one is no answer about its address: mail for it is to wait.
func (s *ldapSource) box(found *ldap.Entry) (*entry, error) {
	a := s.cfg.Attributes
	wrong := func(name, what string) error {
		return fmt.Errorf("directory: %s of %s in LDAP %s", name, found.DN, what)
	}
	address, lun := values(found, a.Address), values(found, a.LUN)
	if len(address) != 1 {
		return nil, wrong(a.Address, fmt.Sprintf("has %d values, and a mailbox has one address", len(address)))
	}
	e := &entry{kind: aMailbox}
	normal, ok := Normalize(address[0])
	if !ok || !s.domains[domainOf(normal)] {
		return nil, wrong(a.Address, fmt.Sprintf("is %q, which is no address of our domains", address[0]))
	}
	if len(lun) != 1 || !knownLUN(s.luns, lun[0]) {
		return nil, wrong(a.LUN, fmt.Sprintf("is %q, and a mailbox has one LUN of %s", lun, lunNames(s.luns)))
	}
	e.box = Mailbox{Address: normal, LUN: lun[0]}
	for _, v := range values(found, a.QuotaSize) {
		var size Size
		if err := size.UnmarshalText([]byte(v)); err != nil {
			return nil, wrong(a.QuotaSize, fmt.Sprintf("is %q, which is no size", v))
		}
		e.box.Quota.Bytes = int64(size)
	}
	for _, v := range values(found, a.QuotaMessages) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return nil, wrong(a.QuotaMessages, fmt.Sprintf("is %q, which is no number of messages", v))
		}
		e.box.Quota.Messages = n
	}
	for _, v := range values(found, a.SendAs) {
		if as, ok := Normalize(v); ok {
			e.sendAs = append(e.sendAs, as)
		}
	}
	for _, v := range values(found, a.SCRAM) {
		if keys, err := ParseKeys(v); err == nil {
			e.keys = &keys // others are for other ways to log in
		}
	}
	return e, nil
}

// group makes the group of an entry. Members that are gone, or have no address, are passed over.
func (s *ldapSource) group(ctx context.Context, found *ldap.Entry) (*entry, error) {
	a := s.cfg.Attributes
	e := &entry{kind: aGroup, from: Anyone}
	for _, v := range values(found, a.From) {
		if e.from = Senders(v); e.from != Anyone && e.from != Members && e.from != Domain {
			return nil, fmt.Errorf("directory: %s of %s in LDAP is %q, and not %s, %s or %s",
				a.From, found.DN, v, Anyone, Members, Domain)
		}
	}
	for _, v := range values(found, a.MemberAddress) {
		if normal, ok := Normalize(v); ok && s.domains[domainOf(normal)] {
			e.to = append(e.to, normal)
		} else {
			s.log.Warn("member of a group is passed over: no address of our domains", "group", found.DN, "member", v)
		}
	}
	members := values(found, a.Member)
	if len(members)+len(e.to) > MaxReach {
		return nil, fmt.Errorf("directory: group %s in LDAP has more than %d members", found.DN, MaxReach)
	}
	for _, dn := range members {
		address, err := s.member(ctx, dn)
		if err != nil {
			return nil, err
		}
		if address != "" {
			e.to = append(e.to, address)
		}
	}
	return e, nil
}

// member gives an address of the entry with the DN, "" when it has none.
func (s *ldapSource) member(ctx context.Context, dn string) (string, error) {
	key := "dn " + strings.ToLower(dn) // no address has a space
	e, ok := s.cache.get(key)
	if !ok {
		found, err := s.entries(ctx, dn, ldap.ScopeBaseObject, s.cfg.Filter)
		if err != nil {
			return "", err
		}
		for _, f := range found {
			for _, name := range append([]string{s.cfg.Attributes.Address}, s.cfg.Attributes.Alias...) {
				for _, v := range slices.Sorted(slices.Values(values(f, name))) {
					if normal, ok := Normalize(v); ok && s.domains[domainOf(normal)] && e == nil {
						e = &entry{kind: anAlias, to: []string{normal}}
					}
				}
			}
		}
		s.cache.put(key, e)
	}
	if e == nil {
		s.log.Debug("member of a group is passed over: it is gone, or has no address", "member", dn)
		return "", nil
	}
	return e.to[0], nil
}

func (s *ldapSource) close() error { return errors.Join(s.search.close(), s.logins.close()) }
