package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// How a banner begins.
const (
	bannerSMTP = "220 "
	bannerIMAP = "* OK "
)

// mostBanner bounds the banner's line.
const mostBanner = 1024

// greet opens a connection, reads the banner and gives the host named in it, if it is one that names a host.
func greet(ctx context.Context, from *ports, addr netip.AddrPort, begins string) (string, error) {
	conn, _, server, err := open(ctx, from, addr, begins)
	if err != nil {
		return "", err
	}
	// RST rather than FIN: thousands of ports in TIME_WAIT would run the client out of them
	if tc, ok := conn.(*net.TCPConn); ok {
		err = tc.SetLinger(0)
	}
	return server, errors.Join(err, conn.Close())
}

// open opens a connection and reads the banner.
func open(ctx context.Context, from *ports, addr netip.AddrPort, begins string) (net.Conn, *bufio.Reader, string, error) {
	conn, err := dial(ctx, from, addr, attemptTime)
	if err != nil {
		return nil, nil, "", err
	}
	r := bufio.NewReaderSize(conn, mostBanner)
	banner, err := r.ReadSlice('\n')
	if err == nil {
		err = checkBanner(string(banner), begins)
	}
	if err != nil {
		conn.Close()
		return nil, nil, "", err
	}
	server, _, _ := strings.Cut(strings.TrimSpace(string(banner[len(begins):])), " ")
	if begins != bannerSMTP {
		server = "" // IMAP names no host
	}
	return conn, r, server, nil
}

// checkBanner says what is wrong with a banner.
func checkBanner(banner, begins string) error {
	switch {
	case strings.HasPrefix(banner, begins):
		return nil
	case strings.HasPrefix(banner, "* BYE"), strings.HasPrefix(banner, "421"):
		return &failure{ReasonBye, fmt.Sprintf("banner %q", banner)}
	case begins == bannerSMTP && len(banner) > 0 && (banner[0] == '4' || banner[0] == '5'):
		return &failure{replyReason(int(banner[0]-'0') * 100), fmt.Sprintf("banner %q", banner)}
	}
	return &failure{ReasonProtocol, fmt.Sprintf("banner %q", banner)}
}
