package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// refusals are the answers to a bind that say that this user cannot log in with this password. Every other error is one of
// the server's own.
var refusals = []uint16{
	ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultInsufficientAccessRights,
	ldap.LDAPResultNoSuchObject, ldap.LDAPResultConstraintViolation, ldap.LDAPResultUnwillingToPerform,
	ldap.LDAPResultInvalidDNSyntax,
}

// login implements source: it binds as the user. What is cached is not asked.
func (s *ldapSource) login(ctx context.Context, address, password string) (Mailbox, error) {
	normal, ok := Normalize(address)
	if !ok || !s.local(domainOf(normal)) || password == "" {
		return Mailbox{}, ErrLogin
	}
	e, dn, err := s.ask(ctx, normal)
	unknown := errors.Is(err, ErrUnknown) || err == nil && e.kind != aMailbox
	if err != nil && !unknown {
		return Mailbox{}, err
	}
	if unknown {
		dn = "cn=" + rand.Text() + "," + s.cfg.Base // the server is asked as often as for a known user
	}
	var refused error
	err = s.logins.do(ctx, func(conn *ldap.Conn) error {
		err := conn.Bind(dn, password)
		var result *ldap.Error
		if errors.As(err, &result) && slices.Contains(refusals, result.ResultCode) {
			refused = err
		}
		return err
	})
	switch {
	case refused != nil || unknown && err == nil:
		return Mailbox{}, ErrLogin
	case err != nil:
		return Mailbox{}, fmt.Errorf("bind to LDAP: %w", err)
	}
	return e.box, nil
}

// ldapSeed gives what all nodes have alike and keep from others. Without a password to search with, each has its own.
func ldapSeed(cfg LDAPConfig) ([]byte, error) {
	if cfg.BindDN == "" {
		return sum([]byte(rand.Text()), "seed"), nil
	}
	password, err := cfg.password()
	if err != nil {
		return nil, fmt.Errorf("read the password of %s: %w", cfg.BindDN, err)
	}
	return sum([]byte(password), "keys of unknown users"), nil
}

// fake implements source.
func (s *ldapSource) fake() ([]byte, int) {
	if s.cfg.Attributes.SCRAM == "" {
		return s.seed, 0
	}
	return s.seed, ourRounds
}

// countEvery is how often the mailboxes of each LUN are counted.
const countEvery = time.Hour

// run tells now and then that answers may have changed, and counts mailboxes, until ctx ends.
func (s *ldapSource) run(ctx context.Context) {
	every := time.NewTicker(max(s.cfg.Cache, time.Second))
	defer every.Stop()
	counting := time.NewTicker(countEvery)
	defer counting.Stop()
	s.count(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			s.mu.Lock()
			close(s.changed)
			s.changed = make(chan struct{})
			s.mu.Unlock()
		case <-counting.C:
			s.count(ctx)
		}
	}
}

// count looks for LUNs with more mailboxes than one may hold. Their stores refuse those that come last.
func (s *ldapSource) count(ctx context.Context) {
	var over []string
	for _, lun := range s.luns {
		n, err := s.mailboxes(ctx, lun)
		if err != nil {
			s.log.Warn("mailboxes of a LUN cannot be counted; the server may have a limit for searches", "lun", lun, "err", err)
			return
		}
		if n > MaxPerLUN {
			over = append(over, lun)
		}
	}
	text := ""
	if len(over) > 0 {
		text = fmt.Sprintf("more than %d mailboxes in LDAP on LUN %s; move some to another LUN",
			MaxPerLUN, strings.Join(over, ", "))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != s.over && text != "" {
		s.log.Error(text)
	}
	s.over = text
}

// mailboxes counts those of a LUN, up to one more than it may hold.
func (s *ldapSource) mailboxes(ctx context.Context, lun string) (n int, err error) {
	a := s.cfg.Attributes
	filter := fmt.Sprintf("(&%s(%s=*)(%s=%s))", s.cfg.Filter, a.Address, a.LUN, ldap.EscapeFilter(lun))
	err = s.search.do(ctx, func(conn *ldap.Conn) error {
		page := ldap.NewControlPaging(250)
		for n = 0; ; {
			req := ldap.NewSearchRequest(s.cfg.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
				filter, []string{"1.1"}, []ldap.Control{page})
			res, err := conn.Search(req)
			if err != nil {
				return err
			}
			n += len(res.Entries)
			next, ok := ldap.FindControl(res.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
			if !ok || len(next.Cookie) == 0 || n > MaxPerLUN {
				return nil
			}
			page.SetCookie(next.Cookie)
		}
	})
	return n, err
}

// status gives how it stands.
func (s *ldapSource) status() Status {
	st := Status{Source: s.cfg.URLs[0]}
	server, failure := s.search.state()
	if server != "" {
		st.Source = server
	}
	if _, other := s.logins.state(); failure == nil {
		failure = other
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if failure == nil {
		failure = s.failure
	}
	if st.Error = s.over; failure != nil {
		st.Error = failure.Error()
	}
	st.Stale = s.cache.staleAnswers()
	return st
}
