package sign

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Kind is what the lookup found at the end of the chain of aliases that a reply shows.
type Kind uint8

// The kinds of replies.
const (
	Answer   Kind = iota // the records asked for, or an alias that leads out of the zone
	NoData               // the name exists, or stands for names that do, and has no records of the type
	NXDomain             // the name does not exist
	Referral             // the name is at or below a zone cut
)

// Facts are what Secure has to know about a reply beside the reply.
type Facts struct {
	Kind  Kind
	Name  string   // what is denied: the query's name, or the last target of its aliases. Of a referral, the cut
	Type  uint16   // that was asked for
	Types []uint16 // at Name, if Kind is NoData; none for an empty non-terminal. For a wildcard's, those of the wildcard

	// CompactOK says that the query had the EDNS flag CO, so that a name which does not exist may be told by NXDOMAIN
	// (RFC 9824 section 5.1). The reply then has CO too, which is left to the caller if it adds the OPT record later.
	CompactOK bool
	// Additional asks for signatures there too. It must hold nothing but authoritative records then, no glue.
	Additional bool
}

// Secure adds to a reply what a validator needs: signatures behind each set of the zone in Answer and Authority, and the NSEC
// record that denies. It is to be called for queries with the DO bit, once per reply, after the lookup and before the reply
// is cut to size. A reply that denies needs its SOA record, as without DNSSEC. NXDOMAIN becomes NOERROR (RFC 9824).
//
// All sets in the reply whose owners are in the zone are taken for the zone's: a chain of aliases must not be followed
// into a zone below, even one that is served here.
//
// An error, ErrUnsigned, says that some set has no signature. The reply is fit to be sent nevertheless, and should be: who does
// not validate can use it, and a validator asks another server, as it would after SERVFAIL.
func (s *Signer) Secure(m *dns.Msg, f Facts, now time.Time) error {
	st := s.state.Load()
	if len(st.ring.Data) == 0 {
		return nil
	}
	s.deny(st, m, f)
	var err, more error
	m.Answer, err = s.section(st, m.Answer, now)
	if m.Ns, more = s.section(st, m.Ns, now); more != nil {
		err = errors.Join(err, more)
	}
	if f.Additional {
		if m.Extra, more = s.section(st, m.Extra, now); more != nil {
			err = errors.Join(err, more)
		}
	}
	return err
}

// deny adds the NSEC record, if the reply needs one.
func (s *Signer) deny(st *state, m *dns.Msg, f Facts) {
	if f.Kind == Answer || !within(s.cfg.Origin, f.Name) {
		return
	}
	ttl := s.negativeTTL(m)
	var record *dns.NSEC
	switch f.Kind {
	case Referral:
		if slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeDS }) {
			return
		}
		record = s.nsecPresent(st, f.Name, []uint16{dns.TypeNS}, dns.TypeDS, ttl)
	case NoData:
		if f.Type == dns.TypeNSEC {
			m.Answer, m.Ns = append(m.Answer, s.NSEC(f.Name, f.Types, ttl)), without(m.Ns, dns.TypeSOA)
			return
		}
		record = s.nsecPresent(st, f.Name, f.Types, f.Type, ttl)
	case NXDomain:
		record = s.nxname(f.Name, ttl)
		if f.Type == dns.TypeNSEC {
			// what is denied is said to have an NSEC record, so it has to be shown to who asks for it
			m.Rcode, m.Answer, m.Ns = dns.RcodeSuccess, append(m.Answer, record), without(m.Ns, dns.TypeSOA)
			return
		}
		if opt := m.IsEdns0(); f.CompactOK && opt != nil {
			opt.SetCo()
		}
		if !f.CompactOK && m.Rcode == dns.RcodeNameError {
			m.Rcode = dns.RcodeSuccess
		}
	default:
		return
	}
	m.Ns = append(m.Ns, record)
}

func without(rrs []dns.RR, rrtype uint16) []dns.RR {
	return slices.DeleteFunc(rrs, func(rr dns.RR) bool { return rr.Header().Rrtype == rrtype })
}

// negativeTTL is the TTL of NSEC records in a reply (RFC 9077 section 3).
func (s *Signer) negativeTTL(m *dns.Msg) uint32 {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(soa.Hdr.Ttl, soa.Minttl, s.maxTTL())
		}
	}
	return uint32(s.cfg.NegativeTTL / time.Second)
}

// section signs the sets of a section.
func (s *Signer) section(st *state, rrs []dns.RR, now time.Time) ([]dns.RR, error) {
	if len(rrs) == 0 {
		return rrs, nil
	}
	rrs = together(rrs)
	var errs []error
	out := make([]dns.RR, 0, len(rrs)+2*len(st.ring.Apex)+2)
	for begin := 0; begin < len(rrs); {
		end := begin + 1
		for end < len(rrs) && sameSet(rrs[begin], rrs[end]) {
			end++
		}
		set := rrs[begin:end]
		begin = end
		if !s.signable(rrs, set[0].Header()) {
			out = append(out, set...)
			continue
		}
		var err error
		if out, err = s.set(st, out, set, now); err != nil {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// signable says whether a set of a section is to be signed.
func (s *Signer) signable(section []dns.RR, h *dns.RR_Header) bool {
	if h.Class != dns.ClassINET || !within(s.cfg.Origin, h.Name) {
		return false
	}
	switch h.Rrtype {
	case dns.TypeRRSIG, dns.TypeOPT, dns.TypeTSIG, dns.TypeSIG, dns.TypeNone:
		return false
	case dns.TypeNS: // of a delegation (RFC 4035 section 2.2)
		return len(h.Name) == len(s.cfg.Origin)
	case dns.TypeCNAME: // made from a DNAME record (RFC 6672 section 5.3.1)
		return !slices.ContainsFunc(section, func(rr dns.RR) bool {
			return rr.Header().Rrtype == dns.TypeDNAME && len(h.Name) > len(rr.Header().Name) && within(rr.Header().Name, h.Name)
		})
	}
	return true
}

// set appends a set and its signatures, if it has any.
func (s *Signer) set(st *state, out, set []dns.RR, now time.Time) ([]dns.RR, error) {
	ttl, least := uint32(0), s.maxTTL()
	for _, rr := range set {
		ttl, least = max(ttl, rr.Header().Ttl), min(least, rr.Header().Ttl)
	}
	begin := len(out)
	out = append(out, set...)
	if most := s.maxTTL(); ttl > most {
		ttl = most
		for i, rr := range out[begin:] {
			if rr.Header().Ttl > most {
				out[begin+i] = dns.Copy(rr)
				out[begin+i].Header().Ttl = most
			}
		}
	}
	scratch := s.scratch.Get().(*setKey)
	defer s.scratch.Put(scratch)
	key, err := scratch.build(set)
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrUnsigned, err)
	}
	e, err := s.find(st, key, ttl, now)
	if e == nil {
		return out, err
	}
	return e.append(out, set[0].Header(), least), err
}

// find gives the signatures of a set, makes them if need be, and otherwise gives the last good ones with no error. The set
// may be sent with any TTL up to theirs: validators take the least (RFC 4035 section 5.3.3).
func (s *Signer) find(st *state, key []byte, ttl uint32, now time.Time) (*entry, error) {
	e, least := st.ahead(key), s.cfg.Validity/useShare
	pinned := e != nil
	if !pinned {
		e, least = st.online.get(key), s.cfg.Validity/refreshShare
	}
	if e != nil && ttl <= e.ttl && e.left(now) >= least {
		return e, nil
	}
	if pinned { // neglected by Refresh, or wanted with a greater TTL than it was pre-signed for
		if online := st.online.get(key); online != nil && ttl <= online.ttl && online.left(now) >= least {
			return online, nil
		}
	}
	made, err := s.make(st.signers(key), key, ttl, now)
	if err == nil {
		st.online.put(key, made)
		return made, nil
	}
	if e != nil && ttl <= e.ttl && e.left(now) > 0 {
		return e, nil
	}
	return nil, err
}
