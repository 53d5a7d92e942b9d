package zone

import (
	"bytes"

	"github.com/miekg/dns"
)

const (
	maxWire   = 255 // bytes of a name on the wire (RFC 1035 section 2.3.4)
	maxLabel  = 63  // bytes of a label
	maxLabels = 127 // of a name, without the root
	maxKey    = 2 * maxWire
)

// name is a domain name as a key. A key has the labels from the root down, each in lower case and closed by a 0; the
// bytes 0 and 1 of a label are written 1 1 and 1 2. So the keys of a name's parents are its prefixes, and bytes.Compare
// on keys is the canonical order of RFC 4034 section 6.1.
type name struct {
	buf    [maxKey + 2]byte // room for the label of a wildcard
	ends   [maxLabels + 1]uint16
	labels int
}

// parse reads a name in presentation form; one without a dot at its end is taken as absolute. It says whether it is one.
func (n *name) parse(s string) bool {
	var wire [maxWire]byte
	var starts [maxLabels]uint8
	if s == "" {
		return false
	}
	if s == "." {
		s = ""
	}
	labels, start, at := 0, 0, 1
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '.' {
			if at == start+1 || at-start-1 > maxLabel {
				return false
			}
			wire[start], starts[labels] = byte(at-start-1), uint8(start)
			labels++
			start, at = at, at+1
			continue
		}
		if c == '\\' {
			var ok bool
			if c, i, ok = escaped(s, i); !ok {
				return false
			}
		}
		if at > maxWire-2 { // the root's byte is to come
			return false
		}
		wire[at] = lower(c)
		at++
	}
	if at > start+1 {
		if at-start-1 > maxLabel {
			return false
		}
		wire[start], starts[labels] = byte(at-start-1), uint8(start)
		labels++
	}
	n.fill(&wire, starts[:labels])
	return true
}

// fill makes the key of a name in wire form, whose labels start at starts.
func (n *name) fill(wire *[maxWire]byte, starts []uint8) {
	at := 0
	for i := len(starts) - 1; i >= 0; i-- {
		s := int(starts[i])
		for _, c := range wire[s+1 : s+1+int(wire[s])] {
			if c <= 1 {
				n.buf[at] = 1
				at++
				c++
			}
			n.buf[at] = c
			at++
		}
		n.buf[at] = 0
		at++
		n.ends[len(starts)-i] = uint16(at)
	}
	n.labels = len(starts)
}

// key is the key of the name's last labels, valid until the name is parsed anew.
func (n *name) key(labels int) []byte { return n.buf[:n.ends[labels]] }

// wildcard turns the name into that of the wildcard below its last labels.
func (n *name) wildcard(labels int) []byte {
	end := n.ends[labels]
	n.buf[end], n.buf[end+1] = '*', 0
	n.labels = labels + 1
	n.ends[n.labels] = end + 2
	return n.buf[:end+2]
}

// escaped reads the escape of s that begins at i, and gives the byte meant and the place of the escape's last character.
func escaped(s string, i int) (byte, int, bool) {
	if i+1 >= len(s) {
		return 0, i, false
	}
	c := s[i+1]
	if c < '0' || c > '9' {
		return c, i + 1, true
	}
	if i+3 >= len(s) {
		return 0, i, false
	}
	value := 0
	for _, d := range []byte(s[i+1 : i+4]) {
		if d < '0' || d > '9' {
			return 0, i, false
		}
		value = 10*value + int(d-'0')
	}
	return byte(value), i + 3, value <= 255
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// present gives the presentation form of a key.
func present(key []byte) string {
	var wire [maxWire]byte
	at := maxWire - 1 // of the root
	for len(key) > 0 {
		end := bytes.IndexByte(key, 0)
		length := labelLength(key[:end])
		at -= length + 1
		wire[at] = byte(length)
		to := at + 1
		for i := 0; i < end; i++ {
			c := key[i]
			if c == 1 {
				i++
				c = key[i] - 1
			}
			wire[to] = c
			to++
		}
		key = key[end+1:]
	}
	s, _, err := dns.UnpackDomainName(wire[at:], 0)
	if err != nil {
		panic("zone: a key that is no name: " + err.Error()) // keys are made by fill alone
	}
	return s
}

// labelLength is how many bytes a label of a key has when its escapes are taken out.
func labelLength(label []byte) int {
	length := 0
	for i := 0; i < len(label); i++ {
		if label[i] == 1 {
			i++
		}
		length++
	}
	return length
}

// keyLabels is how many labels a key has.
func keyLabels(key []byte) int { return bytes.Count(key, []byte{0}) }

// parent gives the key of the name above; the key is not that of the root.
func parent(key []byte) []byte {
	return key[:bytes.LastIndexByte(key[:len(key)-1], 0)+1]
}

// isWildcard says whether the leftmost label of a key is an asterisk.
func isWildcard(key []byte) bool {
	return len(key) >= 2 && key[len(key)-2] == '*' && len(parent(key)) == len(key)-2
}

// canonical gives the one spelling of a name that the package uses: lower case, a dot at its end, and no more escapes than
// it needs. It says whether s is a name.
func canonical(s string) (string, bool) {
	var n name
	if !n.parse(s) {
		return "", false
	}
	return present(n.key(n.labels)), true
}
