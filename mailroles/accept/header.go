package accept

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

const (
	// shortest is as long as the shortest header of all, "PROXY UNKNOWN" with its CRLF.
	shortest = 15
	// fixed is the part of a binary header that is always there; its last two bytes are the length of the rest.
	fixed = 16
	// longestText is the longest header of version 1, as its specification has it.
	longestText = 107
	// longestBinary is the longest that version 2 may have behind the fixed part: addresses, and some fields that proxies add.
	longestBinary = 2048
)

// errHeader says that what should be a PROXY header is none.
var errHeader = errors.New("accept: no PROXY header")

var (
	signature1 = []byte("PROXY ")
	signature2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// Header gives the PROXY header, version 2, that says that a client connected to one of our sockets. Both are *net.TCPAddr.
func Header(client, local net.Addr) ([]byte, error) {
	text, err := proxyproto.HeaderProxyFromAddrs(2, client, local).Format()
	if err != nil {
		return nil, fmt.Errorf("make PROXY header: %w", err)
	}
	return text, nil
}

// readHeader reads a header of version 1 or 2, and not a byte more, from a stream whose first byte has been read already.
// It gives the client's address, and nil if the header says that the proxy speaks for itself.
func readHeader(first byte, r io.Reader) (net.Addr, error) {
	head := make([]byte, shortest, longestText)
	head[0] = first
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return nil, fmt.Errorf("read PROXY header: %w", err)
	}
	var err error
	switch {
	case bytes.HasPrefix(head, signature1):
		head, err = readText(head, r)
	case bytes.HasPrefix(head, signature2):
		head, err = readBinary(head, r)
	default:
		err = errHeader
	}
	if err != nil {
		return nil, err
	}
	return parse(head)
}

// readText reads to the end of a line, byte by byte: what follows it is the client's.
func readText(head []byte, r io.Reader) ([]byte, error) {
	var one [1]byte
	for head[len(head)-1] != '\n' {
		if len(head) == longestText {
			return nil, fmt.Errorf("%w: its line is too long", errHeader)
		}
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return nil, fmt.Errorf("read PROXY header: %w", err)
		}
		head = append(head, one[0])
	}
	return head, nil
}

func readBinary(head []byte, r io.Reader) ([]byte, error) {
	head = append(head, 0)
	if _, err := io.ReadFull(r, head[shortest:]); err != nil {
		return nil, fmt.Errorf("read PROXY header: %w", err)
	}
	rest := binary.BigEndian.Uint16(head[fixed-2:])
	if rest > longestBinary {
		return nil, fmt.Errorf("%w: %d bytes are too many", errHeader, rest)
	}
	head = append(head, make([]byte, rest)...)
	if _, err := io.ReadFull(r, head[fixed:]); err != nil {
		return nil, fmt.Errorf("read PROXY header: %w", err)
	}
	return head, nil
}

// ofNoFamily is what follows the signature when a proxy cannot say in which family the client's address is. The library
// refuses it; its specification has the connection's own addresses stand then.
var ofNoFamily = []byte{0x21, 0x00}

// parse takes a whole header apart.
func parse(head []byte) (net.Addr, error) {
	if rest, ok := bytes.CutPrefix(head, signature2); ok && bytes.HasPrefix(rest, ofNoFamily) {
		return nil, nil
	}
	br := bufio.NewReaderSize(bytes.NewReader(head), len(head))
	h, err := proxyproto.Read(br)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHeader, err)
	}
	if br.Buffered() > 0 {
		return nil, fmt.Errorf("%w: something is behind it", errHeader)
	}
	if h.Command.IsLocal() || h.TransportProtocol.IsUnspec() {
		return nil, nil
	}
	client, _, ok := h.TCPAddrs()
	if !ok {
		return nil, fmt.Errorf("%w: it is not about TCP", errHeader)
	}
	at := client.AddrPort()
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr().Unmap(), at.Port())), nil
}
