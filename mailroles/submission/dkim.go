package submission

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
)

// minRSA is the shortest RSA key in bits that others have to accept (RFC 8301 section 3.2).
const minRSA = 1024

// signed are the fields that a signature covers. Those that are signed once more than they are there cannot be added without
// breaking it: that is what makes a message another one to its reader.
var signed = []struct {
	name     string
	oversign bool
}{
	{"From", true},
	{"Sender", false},
	{"Reply-To", true},
	{"Subject", true},
	{"Date", true},
	{"Message-ID", true},
	{"To", true},
	{"Cc", true},
	{"MIME-Version", true},
	{"Content-Type", true},
	{"Content-Transfer-Encoding", true},
	{"In-Reply-To", false},
	{"References", false},
	{"List-Id", false},
	{"List-Unsubscribe", false},
	{"List-Unsubscribe-Post", false},
}

// keys are private keys by domain.
type keys map[string][]key

type key struct {
	selector string
	signer   crypto.Signer
}

// loadKeys reads all key files, or says which cannot be read.
func loadKeys(list []DKIMKey) (keys, error) {
	k := keys{}
	for _, c := range list {
		signer, err := c.load()
		if err != nil {
			return nil, fmt.Errorf("DKIM key %s of %s: %w", c.Selector, c.Domain, err)
		}
		k[c.Domain] = append(k[c.Domain], key{c.Selector, signer})
	}
	return k, nil
}

// load reads a key in PKCS #8 or, for RSA, PKCS #1. What is in the file is in no error.
func (c DKIMKey) load() (crypto.Signer, error) {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return nil, fmt.Errorf("%w; name the PEM file of a private key", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the file is not PEM; make a key with `openssl genpkey`")
	}
	var parsed any
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, errors.New("the file holds no private key, or a locked one; make one with `openssl genpkey`")
	}
	if err != nil {
		return nil, errors.New("the private key cannot be read; make one with `openssl genpkey`")
	}
	switch k := parsed.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < minRSA {
			return nil, fmt.Errorf("the RSA key has %d bits; make one of 2048", k.N.BitLen())
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, errors.New("the private key is neither RSA nor Ed25519; make one that is")
}

// sign gives the DKIM-Signature fields for a message with all keys of a domain. h is the message's header section.
func (k keys) sign(domain string, h *header, message io.Reader) (string, error) {
	var signers []*dkim.Signer
	defer func() {
		for _, s := range signers {
			s.Close() // a second time, or after an error that is told
		}
	}()
	var all []io.Writer
	for _, key := range k[domain] {
		s, err := dkim.NewSigner(&dkim.SignOptions{
			Domain: domain, Selector: key.selector, Signer: key.signer, HeaderKeys: h.toSign(),
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
		})
		if err != nil {
			return "", fmt.Errorf("sign for %s: %w", domain, err)
		}
		signers, all = append(signers, s), append(all, s)
	}
	if _, err := io.Copy(io.MultiWriter(all...), message); err != nil {
		return "", fmt.Errorf("sign for %s: %w", domain, err)
	}
	var fields strings.Builder
	for _, s := range signers {
		if err := s.Close(); err != nil {
			return "", fmt.Errorf("sign for %s: %w", domain, err)
		}
		fields.WriteString(s.Signature())
	}
	return fields.String(), nil
}

// toSign names the fields for a signature, each as often as it is to be signed.
func (h *header) toSign() []string {
	var names []string
	for _, f := range signed {
		n := len(h.all(f.name))
		if f.oversign {
			n++
		}
		names = append(names, slices.Repeat([]string{f.name}, n)...)
	}
	return names
}
