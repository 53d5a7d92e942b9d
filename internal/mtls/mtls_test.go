package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
)

func load(t *testing.T, f mtls.Files) *mtls.Material {
	t.Helper()
	m, err := mtls.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// greet has the server say hello, and gives what went wrong on the client's side.
func greet(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	deadline := time.Now().Add(10 * time.Second)
	var serving sync.WaitGroup
	serving.Go(func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		c.SetDeadline(deadline)
		conn := tls.Server(c, server)
		io.WriteString(conn, "hello") // what goes wrong here is told to the client, too
		conn.Close()
	})
	defer serving.Wait()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(deadline)
	_, err = io.ReadFull(tls.Client(c, client), make([]byte, 5))
	return err
}

func TestLink(t *testing.T) {
	ca, other := mtlstest.NewCA(t), mtlstest.NewCA(t)
	addr := netip.MustParseAddr("2001:db8::7")
	server := load(t, ca.Host(t, "server", []netip.Addr{addr}))
	client := load(t, ca.Host(t, "client", nil))
	stranger := load(t, other.Host(t, "stranger", []netip.Addr{addr}))
	serverOnly := load(t, ca.Host(t, "server-only", nil, x509.ExtKeyUsageServerAuth))
	named := func(c *tls.Config, name string) *tls.Config {
		c.ServerName = name
		return c
	}
	anonymous := named(client.Client(), addr.String())
	anonymous.Certificates = nil
	old := named(client.Client(), addr.String())
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for _, tc := range []struct {
		name           string
		server, client *tls.Config
		want           string // in the error; empty: none
	}{
		{"address in the certificate", server.Server(), named(client.Client(), addr.String()), ""},
		{"another address", server.Server(), named(client.Client(), "2001:db8::8"), "certificate is valid for 2001:db8::7"},
		{"another address that is not compared", server.Server(), named(client.ClientOfAny(), "2001:db8::8"), ""},
		{"client without certificate", server.Server(), anonymous, "certificate required"},
		{"client of another CA", server.Server(), named(stranger.ClientOfAny(), addr.String()), "unknown authority"},
		{"server of another CA", stranger.Server(), named(client.Client(), addr.String()), "unknown authority"},
		{"server of another CA, any name", stranger.Server(), named(client.ClientOfAny(), addr.String()), "unknown authority"},
		{"client with a server's certificate", server.Server(), named(serverOnly.Client(), addr.String()), "bad certificate"},
		{"TLS 1.2", server.Server(), old, "protocol version"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := greet(t, tc.server, tc.client)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
