package transfer

import (
	"errors"
	"iter"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

// ErrSameSerial says that a zone's records are others than before and its serial is not.
var ErrSameSerial = errors.New("the records are others than before; raise the serial, or no secondary notices")

// batchSize is how many bytes of records go into one message before names are compressed, which brings most to some 15,000:
// below the 16 KiB up to which names can be pointed at (RFC 1035 section 4.1.4).
const batchSize = 22_000

// Kind says what a transfer consists of; it is a label for metrics.
type Kind string

// The kinds.
const (
	Whole       Kind = "axfr" // all records
	Incremental Kind = "ixfr" // what has changed
	None        Kind = "none" // nothing is newer
)

// Full gives the records of a whole transfer, the SOA record first and last (RFC 5936 section 2.2).
func Full(z *zone.Zone, live zone.Live) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		for rr := range z.All(live) {
			if !yield(rr) {
				return
			}
		}
		yield(z.SOA())
	}
}

// Answer gives what a secondary that has a serial is sent (RFC 1995 sections 2 and 4): the SOA record alone when nothing is
// newer, what has changed when that is known and shorter than all, and all records if not.
func (h *History) Answer(z *zone.Zone, live zone.Live, serial uint32) (Kind, iter.Seq[dns.RR]) {
	if !Newer(z.Serial(), serial) {
		return None, func(yield func(dns.RR) bool) { yield(z.SOA()) }
	}
	deltas := h.since(z.Origin(), serial, z.Serial())
	size := 2
	for i := range deltas {
		size += deltas[i].size()
	}
	if len(deltas) == 0 || size > z.Len()+2 {
		return Whole, Full(z, live)
	}
	return Incremental, func(yield func(dns.RR) bool) {
		if !yield(z.SOA()) {
			return
		}
		for i := range deltas {
			if !deltas[i].yield(yield) {
				return
			}
		}
		yield(z.SOA())
	}
}

// yield gives the records of a delta in the order that they are sent.
func (d *Delta) yield(yield func(dns.RR) bool) bool {
	for _, part := range [][]dns.RR{{d.From}, d.Del, {d.To}, d.Add} {
		for _, rr := range part {
			if !yield(rr) {
				return false
			}
		}
	}
	return true
}

// Batches divides the records of a transfer into messages.
func Batches(records iter.Seq[dns.RR]) iter.Seq[[]dns.RR] {
	return func(yield func([]dns.RR) bool) {
		var batch []dns.RR
		size := 0
		for rr := range records {
			n := dns.Len(rr)
			if size+n > batchSize && len(batch) > 0 {
				if !yield(batch) {
					return
				}
				batch, size = nil, 0
			}
			batch, size = append(batch, rr), size+n
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}
