package bfd

import (
	"encoding/binary"
	"time"
)

const (
	version   = 1
	headerLen = 24
	authLen   = 28 // of the SHA1 authentication section (RFC 5880 4.4)
	leastAuth = 2  // type and length, which every authentication section has
	packetLen = headerLen + authLen

	// maxInterval is what 32 bits of microseconds hold.
	maxInterval = (1<<32 - 1) * time.Microsecond

	bitPoll       = 0x20
	bitFinal      = 0x10
	bitAuth       = 0x04
	bitDemand     = 0x02
	bitMultipoint = 0x01
)

// packet is a control packet (RFC 5880 4.1) without its authentication section. Of the flags, the C bit is of no use to us.
type packet struct {
	diag                      Diag
	state                     State
	poll, final, auth, demand bool
	mult                      uint8
	my, your                  uint32
	tx, rx, echo              time.Duration // desired min TX, required min RX, required min echo RX
}

// decode reads a packet and refuses it by the steps of RFC 5880 6.8.6 that need no session.
func (p *packet) decode(b []byte) drop {
	if len(b) < headerLen {
		return dropLength
	}
	if b[0]>>5 != version {
		return dropVersion
	}
	flags, length := b[1], int(b[3])
	least := headerLen
	if flags&bitAuth != 0 {
		least += leastAuth
	}
	if length < least || length > len(b) {
		return dropLength
	}
	*p = packet{
		diag: Diag(b[0] & 0x1f), state: State(flags >> 6),
		poll: flags&bitPoll != 0, final: flags&bitFinal != 0, auth: flags&bitAuth != 0, demand: flags&bitDemand != 0,
		mult: b[2], my: binary.BigEndian.Uint32(b[4:]), your: binary.BigEndian.Uint32(b[8:]),
		tx: microseconds(b[12:]), rx: microseconds(b[16:]), echo: microseconds(b[20:]),
	}
	switch {
	case p.mult == 0:
		return dropMultiplier
	case flags&bitMultipoint != 0:
		return dropMultipoint
	case p.my == 0:
		return dropMyDiscriminator
	case p.your == 0 && p.state != Down && p.state != AdminDown:
		return dropState
	}
	return taken
}

// encode writes the packet and gives its octets. With auth, there is room for the section, which sign fills.
func (p *packet) encode(b *[packetLen]byte) []byte {
	flags, length := byte(p.state)<<6, headerLen
	if p.poll {
		flags |= bitPoll
	}
	if p.final {
		flags |= bitFinal
	}
	if p.auth {
		flags, length = flags|bitAuth, packetLen
	}
	if p.demand {
		flags |= bitDemand
	}
	b[0], b[1], b[2], b[3] = version<<5|byte(p.diag), flags, p.mult, byte(length)
	binary.BigEndian.PutUint32(b[4:], p.my)
	binary.BigEndian.PutUint32(b[8:], p.your)
	putMicroseconds(b[12:], p.tx)
	putMicroseconds(b[16:], p.rx)
	putMicroseconds(b[20:], p.echo)
	return b[:length]
}

func microseconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

func putMicroseconds(b []byte, d time.Duration) {
	binary.BigEndian.PutUint32(b, uint32(min(d, maxInterval)/time.Microsecond))
}
