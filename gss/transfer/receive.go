package transfer

import (
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// ErrBroken says that a transfer is not what the RFCs make one of.
var ErrBroken = errors.New("the transfer is broken")

// maxIncrement is how many records an incremental transfer has at most; what changes more is better taken whole.
const maxIncrement = 500_000

// place is where in a transfer the next record stands.
type place uint8

const (
	atFirst  place = iota // the SOA record of the new version
	atSecond              // which shows the kind
	inWhole
	inDeleted
	inAdded
	atEnd
)

// incoming puts the records of a transfer together, as they come (RFC 5936 section 2.2, RFC 1995 section 4).
type incoming struct {
	origin      string
	incremental bool   // was asked for
	serial      uint32 // that we have, if so

	max   int          // bytes that the records may take
	whole func(dns.RR) // is given the records of a whole transfer as they come, the SOA record once

	at      place
	kind    Kind
	soa     *dns.SOA // of the new version
	deltas  []Delta
	changes int // records in them
	size    int // bytes of records, so far
}

// take takes the next record.
func (in *incoming) take(rr dns.RR) error {
	soa, _ := rr.(*dns.SOA)
	if soa != nil && dns.CanonicalName(soa.Hdr.Name) != in.origin {
		return fmt.Errorf("%w: it has an SOA record of %s", ErrBroken, soa.Hdr.Name)
	}
	switch in.at {
	case atFirst:
		if soa == nil {
			return fmt.Errorf("%w: its first record is %s and not SOA", ErrBroken, dns.Type(rr.Header().Rrtype))
		}
		in.soa, in.at, in.kind = soa, atSecond, None
		return nil
	case atSecond:
		return in.second(rr, soa)
	case inWhole:
		return in.ofWhole(rr, soa)
	case inDeleted:
		return in.deleted(rr, soa)
	case inAdded:
		return in.added(rr, soa)
	}
	return fmt.Errorf("%w: records follow its end", ErrBroken)
}

// second tells by the second record which kind of transfer this is.
func (in *incoming) second(rr dns.RR, soa *dns.SOA) error {
	if in.incremental && soa != nil && soa.Serial == in.serial && soa.Serial != in.soa.Serial {
		in.kind, in.at = Incremental, inDeleted
		in.deltas = []Delta{{From: soa}}
		return nil
	}
	in.kind, in.at = Whole, inWhole
	in.whole(in.soa)
	return in.ofWhole(rr, soa)
}

func (in *incoming) ofWhole(rr dns.RR, soa *dns.SOA) error {
	switch {
	case soa == nil:
		if in.size += dns.Len(rr); in.size > in.max {
			return tooBig(in.max)
		}
		in.whole(rr)
	case soa.Serial != in.soa.Serial:
		return fmt.Errorf("%w: it begins with serial %d and ends with %d", ErrBroken, in.soa.Serial, soa.Serial)
	default:
		in.at = atEnd
	}
	return nil
}

func (in *incoming) deleted(rr dns.RR, soa *dns.SOA) error {
	d := &in.deltas[len(in.deltas)-1]
	if soa == nil {
		d.Del = append(d.Del, rr)
		return in.change(rr)
	}
	if !Newer(soa.Serial, d.From.Serial) {
		return fmt.Errorf("%w: it leads from serial %d to %d", ErrBroken, d.From.Serial, soa.Serial)
	}
	d.To, in.at = soa, inAdded
	return nil
}

func (in *incoming) added(rr dns.RR, soa *dns.SOA) error {
	d := &in.deltas[len(in.deltas)-1]
	switch {
	case soa == nil:
		d.Add = append(d.Add, rr)
		return in.change(rr)
	case soa.Serial != d.To.Serial:
		return fmt.Errorf("%w: an increment from serial %d follows one to %d", ErrBroken, soa.Serial, d.To.Serial)
	case soa.Serial == in.soa.Serial:
		in.at = atEnd
	default:
		in.deltas = append(in.deltas, Delta{From: soa})
		in.at = inDeleted
	}
	return nil
}

// change counts a record of an increment, since they have to be held until all are there.
func (in *incoming) change(rr dns.RR) error {
	in.changes++
	if in.size += dns.Len(rr); in.changes > maxIncrement || in.size > in.max {
		return fmt.Errorf("%w: they have more than %d records or %d bytes", ErrMismatch, maxIncrement, in.max)
	}
	return nil
}

// message says after each message whether the transfer is complete. An SOA record alone is so when it is no newer than what
// we have; else its sender puts few records into a message.
func (in *incoming) message() (complete bool) {
	return in.at == atEnd || in.at == atSecond && in.incremental && !Newer(in.soa.Serial, in.serial)
}
