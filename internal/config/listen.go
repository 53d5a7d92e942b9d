package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ListenAddr is where to listen: an address and port, or ":25" for every address of the machine.
type ListenAddr struct {
	Addr netip.Addr // the zero Addr stands for every address
	Port uint16
}

// AnyAddr gives every address of the machine with a port.
func AnyAddr(port uint16) ListenAddr { return ListenAddr{Port: port} }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *ListenAddr) UnmarshalText(text []byte) error {
	s := string(text)
	if port, ok := strings.CutPrefix(s, ":"); ok {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("no port in %q", s)
		}
		*l = AnyAddr(uint16(n))
		return nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return err
	}
	*l = ListenAddr{Addr: ap.Addr(), Port: ap.Port()}
	return nil
}

// Kind says what a value looks like, for complaints.
func (l *ListenAddr) Kind() string { return "where to listen, such as \":25\" or 203.0.113.10:25" }

// String gives the form that the node file has.
func (l ListenAddr) String() string {
	if !l.Addr.IsValid() {
		return ":" + strconv.Itoa(int(l.Port))
	}
	return netip.AddrPortFrom(l.Addr, l.Port).String()
}
