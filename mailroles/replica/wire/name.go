package wire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// named is nil if the certificate that the other side showed names a member. Front ends have certificates of the same CA: none
// of them is to vote, or to say what is on its disk.
func named(state tls.ConnectionState, member string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("it showed no certificate")
	}
	return namedBy(state.PeerCertificates[0], member)
}

func namedBy(cert *x509.Certificate, member string) error {
	if cert.Subject.CommonName == member || slices.Contains(cert.DNSNames, member) {
		return nil
	}
	return fmt.Errorf("the certificate names %q and %q, and not %s", cert.Subject.CommonName, cert.DNSNames, member)
}

// ownName looks whether the certificate that a node shows names it: without that nobody would talk to it.
func ownName(c *tls.Config, self string) error {
	if c == nil || c.GetClientCertificate == nil {
		return nil
	}
	pair, err := c.GetClientCertificate(&tls.CertificateRequestInfo{})
	if err != nil {
		return err
	}
	if len(pair.Certificate) == 0 {
		return errors.New("there is no certificate")
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return err
	}
	return namedBy(cert, self)
}
