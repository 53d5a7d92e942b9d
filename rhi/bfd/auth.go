package bfd

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"time"
)

const (
	authMeticulousSHA1 = 5 // RFC 5880 4.1
	maxSecret          = sha1.Size
)

// Key is what both ends of a session know. Packets are not encrypted; they prove that their sender knows the secret.
type Key struct {
	ID     uint8  `json:"id"`     // number of the key, the same at both ends
	Secret string `json:"secret"` // 1 to 20 octets; empty: the session is not authenticated
}

// auth is the authentication of a session: meticulous keyed SHA1 (RFC 5880 6.7.4), in which no two packets have the same
// sequence number, so that a recorded one is of no use.
type auth struct {
	sent     uint32 // sequence number of the last packet that was sent
	received uint32 // and of the last that was taken
	known    bool   // received means something
	until    time.Time
}

// sign fills the authentication section of an encoded packet.
func (a *auth) sign(b []byte, k *Key) {
	a.sent++
	section := b[headerLen:packetLen]
	section[0], section[1], section[2], section[3] = authMeticulousSHA1, authLen, k.ID, 0
	binary.BigEndian.PutUint32(section[4:], a.sent)
	k.fill(section[8:])
	digest := sha1.Sum(b[:packetLen])
	copy(section[8:], digest[:])
}

// fill writes the secret, with zeros up to the length of a digest.
func (k *Key) fill(b []byte) {
	clear(b[copy(b, k.Secret):sha1.Size])
}

// verify checks a packet against the key. The digest is looked at before the sequence number, so that nobody without the
// secret can move the number.
func (a *auth) verify(p *packet, raw []byte, k *Key) drop {
	switch {
	case k.Secret == "" && p.auth:
		return dropAuthUnexpected
	case k.Secret == "":
		return taken
	case !p.auth:
		return dropAuthMissing
	}
	length, section := int(raw[3]), raw[headerLen:]
	switch {
	case section[0] != authMeticulousSHA1:
		return dropAuthType
	case section[1] != authLen || length != packetLen:
		return dropAuthLength
	case section[2] != k.ID:
		return dropAuthKey
	}
	var signed [packetLen]byte
	copy(signed[:], raw)
	k.fill(signed[headerLen+8:])
	digest := sha1.Sum(signed[:])
	if subtle.ConstantTimeCompare(digest[:], section[8:authLen]) == 0 {
		return dropAuthDigest
	}
	seq := binary.BigEndian.Uint32(section[4:])
	if ahead := seq - a.received; a.known && (ahead == 0 || ahead > 3*uint32(p.mult)) { // circular, so that it may wrap
		return dropAuthSequence
	}
	a.known, a.received = true, seq
	return taken
}
