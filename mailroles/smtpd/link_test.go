package smtpd

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles/link"
)

// The library's parser is what reads what a front end writes.
func TestLinkCarriesNamesThatAreNotASCII(t *testing.T) {
	const box, user = "tür@example.org", "grüße+a=b@example.org"
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(func(o *Options) { o.LinkTLS = material.Server() })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, ln) }()
	pool := link.NewPool("mx.example.org", material.ClientOfAny(), slog.New(slog.DiscardHandler))
	defer pool.Close()
	m := link.Message{From: "x@example.org", User: user, Body: func() io.Reader { return strings.NewReader(plain) }}
	results := pool.Deliver(ctx, netip.MustParseAddrPort(ln.Addr().String()), m, []link.Recipient{{Address: box}})
	if results[0] != nil {
		t.Fatal(results[0])
	}
	if env := s.envs[0]; env.User != user || env.To[0].Address != box {
		t.Errorf("the store was told %+v", env)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
