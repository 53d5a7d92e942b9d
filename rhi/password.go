package rhi

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// passwords maps the names of peers to their passwords. gobgp goes on without one that the kernel will not take, which
// would leave the port open to anybody, so that is tried out here.
func (c *Config) passwords() (map[string]string, error) {
	found := map[string]string{}
	for _, p := range c.allPeers() {
		secret, err := p.secret()
		if err != nil {
			return nil, fmt.Errorf("peer %s: %w", p.name, err)
		}
		if secret == "" {
			continue
		}
		if err := tryPassword(p.where, secret); err != nil {
			return nil, fmt.Errorf("peer %s: the kernel takes no TCP MD5 password (CONFIG_TCP_MD5SIG): %w", p.name, err)
		}
		found[p.name] = secret
	}
	return found, nil
}

// tryPassword gives a socket the password of peers that dial from a prefix.
func tryPassword(from netip.Prefix, secret string) error {
	family := unix.AF_INET6
	sig := unix.TCPMD5Sig{Flags: unix.TCP_MD5SIG_FLAG_PREFIX, Prefixlen: uint8(from.Bits()), Keylen: uint16(len(secret))}
	if from.Addr().Is4() {
		family = unix.AF_INET
		copy(sig.Addr.Data[2:], from.Addr().AsSlice())
	} else {
		copy(sig.Addr.Data[6:], from.Addr().AsSlice())
	}
	sig.Addr.Family = uint16(family)
	copy(sig.Key[:], secret)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG_EXT, &sig)
}
