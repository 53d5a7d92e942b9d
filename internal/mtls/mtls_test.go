package mtls_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
)

func load(t *testing.T, f mtls.Files) *mtls.Material {
	t.Helper()
	m, err := mtls.Load(f, nil)
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

// TestFilesAreReadAgain replaces a CA and what it has signed, file by file, under settings that are in use.
func TestFilesAreReadAgain(t *testing.T) {
	ca := mtlstest.NewCA(t)
	var log bytes.Buffer
	files := ca.Node(t, "server")
	onServer, err := mtls.Load(files, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	onClient := load(t, ca.Node(t, "client"))
	server, public, ofAny := onServer.Server(), onServer.Public(), onClient.ClientOfAny()
	expect := func(when, want string) {
		t.Helper()
		named := onClient.Client()
		named.ServerName = "127.0.0.1"
		toPublic := &tls.Config{RootCAs: named.RootCAs, ServerName: "127.0.0.1"}
		for how, err := range map[string]error{
			"by name": greet(t, server, named), "any": greet(t, server, ofAny), "public": greet(t, public, toPublic),
		} {
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: error %v, want %q", when, how, err, want)
			}
		}
	}
	expect("at first", "")
	oldClient := onClient.Client()
	oldClient.ServerName = "127.0.0.1"

	old, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	ca.Node(t, "server")
	renewed, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, files.Key, old)
	expect("with a certificate that the key does not fit yet", "")
	expect("and once more", "")
	if n := strings.Count(log.String(), "stay in use"); n != 1 {
		t.Errorf("told of files that do not fit %d times, want once:\n%s", n, log.String())
	}
	write(t, files.Key, renewed)
	expect("with the key", "")
	if !strings.Contains(log.String(), "read again") {
		t.Errorf("new files are not in the log:\n%s", log.String())
	}

	ca.Replace(t)
	expect("with another CA that has signed neither", "unknown")
	ca.Node(t, "server")
	ca.Node(t, "client")
	expect("with certificates of the other CA", "")
	if err := greet(t, server, oldClient); err == nil {
		t.Error("a client of the CA before is let in")
	}
	if err := os.Remove(files.CA); err != nil {
		t.Fatal(err)
	}
	expect("without the CA's file", "")
}

// A node without a CA would believe everybody's whom the system believes.
func TestOnlyAPairNeedsNoCA(t *testing.T) {
	files := mtlstest.NewCA(t).Node(t, "server")
	pair := mtls.Pair{Cert: files.Cert, Key: files.Key}
	if _, err := mtls.LoadPair(pair, nil); err != nil {
		t.Error(err)
	}
	files.CA = ""
	if _, err := mtls.Load(files, nil); err == nil {
		t.Error("files without a CA make a link")
	}
	pair.Key = files.Key + ".none"
	if _, err := mtls.LoadPair(pair, nil); err == nil {
		t.Error("a pair without a key is shown")
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
