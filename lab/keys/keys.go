// Package keys makes the certificates of a lab: one authority, and for each node a certificate signed by it.
//
// A node's folder then holds ca.pem, node.pem and node.key. Nodes use them towards clients (STARTTLS) and towards each
// other (mutual TLS between front ends and stores). They are for labs only: the authority's key is thrown away once
// the certificates are signed, and everything ends after Lifetime. The package has no state and nothing to close.
package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Lifetime is how long the certificates of a lab are good for.
const Lifetime = 30 * 24 * time.Hour

// Host is a node that gets a certificate.
type Host struct {
	Name  string       // the folder's name, and the certificate's subject
	Names []string     // DNS names that it answers to
	Addrs []netip.Addr // addresses that it answers on
}

// Make writes dir/NAME/{ca.pem,node.pem,node.key} for each host, replacing what is there.
func Make(dir string, hosts []Host) error {
	ca, caKey, caPEM, err := authority()
	if err != nil {
		return err
	}
	for i, h := range hosts {
		certPEM, keyPEM, err := sign(ca, caKey, h, int64(i+2))
		if err != nil {
			return fmt.Errorf("certificate of %s: %w", h.Name, err)
		}
		folder := filepath.Join(dir, h.Name)
		err = errors.Join(
			os.MkdirAll(folder, 0o755),
			os.WriteFile(filepath.Join(folder, "ca.pem"), caPEM, 0o644),
			os.WriteFile(filepath.Join(folder, "node.pem"), certPEM, 0o644),
			os.WriteFile(filepath.Join(folder, "node.key"), keyPEM, 0o600),
		)
		if err != nil {
			return fmt.Errorf("write the keys of %s: %w", h.Name, err)
		}
	}
	return nil
}

func authority() (*x509.Certificate, *ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("key of the authority: %w", err)
	}
	tmpl := template("anycastle lab authority", 1)
	tmpl.IsCA = true
	tmpl.BasicConstraintsValid = true
	tmpl.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("certificate of the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("certificate of the authority: %w", err)
	}
	return cert, key, block("CERTIFICATE", der), nil
}

func sign(ca *x509.Certificate, caKey *ecdsa.PrivateKey, h Host, serial int64) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	tmpl := template(h.Name, serial)
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	tmpl.DNSNames = append([]string{h.Name}, h.Names...)
	for _, a := range h.Addrs {
		tmpl.IPAddresses = append(tmpl.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", keyDER), nil
}

func template(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-Lifetime), // a lab may set a clock back
		NotAfter:     time.Now().Add(Lifetime),
	}
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
