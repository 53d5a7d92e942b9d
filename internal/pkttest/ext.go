package pkttest

import "encoding/binary"

// Ext is an IPv6 extension header, without its first byte: that names the next header, and Bytes fills it in.
type Ext struct {
	Proto uint8  // what names this header in the one before
	Rest  []byte // from its second byte on; its length is part of it
}

// The numbers of extension headers.
const (
	HopByHopHeader    = 0
	RoutingHeader     = 43
	FragmentHeader    = 44
	AuthHeader        = 51
	DestinationHeader = 60
)

// HopByHop gives a hop-by-hop options header of 8*(n+1) bytes full of padding.
func HopByHop(n uint8) Ext { return Ext{HopByHopHeader, padding(n)} }

// Destination gives a destination options header of 8*(n+1) bytes full of padding.
func Destination(n uint8) Ext { return Ext{DestinationHeader, padding(n)} }

// padding gives the length and PadN options of 255 bytes at most (RFC 8200, section 4.2).
func padding(n uint8) []byte {
	b := make([]byte, 8*(int(n)+1)-1)
	b[0] = n
	for rest := b[1:]; len(rest) > 0; {
		size := min(len(rest), 257)
		if len(rest)-size == 1 {
			size-- // one byte would need another option
		}
		rest[0], rest[1] = 1, byte(size-2)
		rest = rest[size:]
	}
	return b
}

// Routing gives a routing header of type 4 without segments in its list, and with as many segments left as it says.
func Routing(left uint8) Ext { return Ext{RoutingHeader, []byte{0, 4, left, 0, 0, 0, 0}} }

// Auth gives an authentication header of 4*(n+2) bytes (RFC 4302).
func Auth(n uint8) Ext {
	b := make([]byte, 4*(int(n)+2)-1)
	b[0] = n
	return Ext{AuthHeader, b}
}

// FragmentAt gives a fragment header; offset is in bytes and a multiple of 8. At 0 without more it is an atomic fragment.
func FragmentAt(offset int, more bool, id uint32) Ext {
	b := make([]byte, 7)
	where := uint16(offset)
	if more {
		where |= 1
	}
	binary.BigEndian.PutUint16(b[1:], where)
	binary.BigEndian.PutUint32(b[3:], id)
	return Ext{FragmentHeader, b}
}

// chain gives the protocol of the first header of a chain that ends in last, and the headers' bytes.
func chain(headers []Ext, last uint8) (first uint8, b []byte) {
	if len(headers) == 0 {
		return last, nil
	}
	next, rest := chain(headers[1:], last)
	b = append([]byte{next}, headers[0].Rest...)
	return headers[0].Proto, append(b, rest...)
}
