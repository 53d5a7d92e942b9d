package cookie

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	ClientSize = 8                       // bytes of a client cookie: RFC 7873 section 4
	Size       = ClientSize + serverSize // bytes of a whole cookie that this package makes

	serverSize    = 16 // RFC 9018 section 4
	minServerSize = 8  // of any server's cookie: RFC 7873 section 4
	maxServerSize = 32
	version       = 1 // the byte that a server cookie begins with: RFC 9018 section 4.1
)

// Bounds of a cookie's age: RFC 9018 section 4.3.
const (
	maxAge    = uint32(time.Hour / time.Second)
	maxAhead  = uint32(5 * time.Minute / time.Second)
	renewedAt = uint32(30 * time.Minute / time.Second)
)

// MaxSecrets bounds the secrets in use at a time: the current, the one before it, the one after it, and one to spare.
const MaxSecrets = 4

// Status says what the cookie of a query is worth.
type Status uint8

// The zero Status is that of a query without a COOKIE option.
const (
	None       Status = iota
	ClientOnly        // the client knows no server cookie yet
	Valid             // made by us or by a server with our secrets, for this address, within the hour
	Stale             // made by us for this address, but too old or from the future
	Bad               // no cookie of ours for this address
	Malformed         // of a length that RFC 7873 section 5.2.2 answers with FORMERR
)

// String gives the word for a log.
func (s Status) String() string {
	names := [...]string{"none", "client only", "valid", "stale", "bad", "malformed"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Secret is the key that cookies are made with.
type Secret [16]byte

// String keeps the secret out of logs.
func (Secret) String() string { return "a cookie secret" }

// GoString keeps it out of %#v.
func (Secret) GoString() string { return "cookie.Secret{…}" }

// Random gives a secret that no other server has.
func Random() Secret {
	var s Secret
	rand.Read(s[:]) // never fails: the program ends instead
	return s
}

// Server makes and checks cookies. It is safe for concurrent use. The zero Server is not fit for use; see NewServer.
type Server struct {
	keys atomic.Pointer[[]key] // never empty; the first makes cookies, the others only check
}

// NewServer gives a Server that makes cookies with current and also takes those that were made with one of others.
func NewServer(current Secret, others ...Secret) *Server {
	s := &Server{}
	s.Set(current, others...)
	return s
}

// Set replaces all secrets at once. Secrets beyond MaxSecrets are left out.
func (s *Server) Set(current Secret, others ...Secret) {
	keys := []key{newKey(current)}
	for _, o := range others[:min(len(others), MaxSecrets-1)] {
		keys = append(keys, newKey(o))
	}
	s.keys.Store(&keys)
}

// Append appends a fresh whole cookie, Size bytes: the client's and ours for it. client is a whole cookie or the client's
// part alone, of at least ClientSize bytes; addr is where the query came from, now the time in Unix seconds (they may
// wrap: RFC 9018 section 4.3).
func (s *Server) Append(dst, client []byte, addr netip.Addr, now uint32) []byte {
	return appendCookie(dst, (*s.keys.Load())[0], client, addr, now)
}

func appendCookie(dst []byte, k key, client []byte, addr netip.Addr, now uint32) []byte {
	var c [Size]byte
	copy(c[:ClientSize], client)
	c[ClientSize] = version
	binary.BigEndian.PutUint32(c[12:], now)
	hash := k.hash(c[:16], addr)
	copy(c[16:], hash[:])
	return append(dst, c[:]...)
}

// Check says what the content of a query's COOKIE option is worth. An empty cookie, which the option cannot have, is
// that of a query without one.
func (s *Server) Check(cookie []byte, addr netip.Addr, now uint32) Status {
	status, _ := s.judge(cookie, addr, now)
	return status
}

// Renew appends the cookie that the reply to a query must carry, and says what the query's own is worth. It is the
// query's own while that is valid, young, and made with the current secret, otherwise a fresh one (RFC 9018 section
// 4.3). Nothing is appended for None and Malformed.
func (s *Server) Renew(dst, cookie []byte, addr netip.Addr, now uint32) ([]byte, Status) {
	status, k := s.judge(cookie, addr, now)
	keys := *s.keys.Load()
	switch {
	case status == None || status == Malformed:
		return dst, status
	case status == Valid && k == keys[0] && [3]byte(cookie[9:12]) == [3]byte{}:
		if age := int32(now - binary.BigEndian.Uint32(cookie[12:])); age <= int32(renewedAt) {
			return append(dst, cookie...), status
		}
	}
	return appendCookie(dst, keys[0], cookie, addr, now), status
}

// judge is Check, and gives the key that a Valid or Stale cookie was made with.
func (s *Server) judge(cookie []byte, addr netip.Addr, now uint32) (Status, key) {
	switch n := len(cookie); {
	case n == 0:
		return None, key{}
	case n == ClientSize:
		return ClientOnly, key{}
	case n < ClientSize+minServerSize || n > ClientSize+maxServerSize:
		return Malformed, key{}
	case n != Size || cookie[ClientSize] != version:
		return Bad, key{} // another server's
	}
	for _, k := range *s.keys.Load() {
		// the reserved bytes are part of what is hashed, whatever they are: RFC 9018 section 4.2
		hash := k.hash(cookie[:16], addr)
		if subtle.ConstantTimeCompare(hash[:], cookie[16:]) == 1 {
			return freshness(binary.BigEndian.Uint32(cookie[12:]), now), k
		}
	}
	return Bad, key{}
}

// freshness compares in serial number arithmetic (RFC 1982), since the seconds wrap in 2106.
func freshness(made, now uint32) Status {
	if age := int32(now - made); age > int32(maxAge) || age < -int32(maxAhead) {
		return Stale
	}
	return Valid
}

// hash gives the last 8 bytes of a cookie from the first 16 and the client's address: RFC 9018 section 4.4.
func (k key) hash(head []byte, addr netip.Addr) [8]byte {
	var in [32]byte
	n := copy(in[:], head)
	if addr = addr.Unmap(); addr.Is4() {
		a := addr.As4()
		n += copy(in[n:], a[:])
	} else {
		a := addr.As16()
		n += copy(in[n:], a[:])
	}
	var out [8]byte
	binary.LittleEndian.PutUint64(out[:], k.sum(in[:n]))
	return out
}
