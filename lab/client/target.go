package client

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"anycastle/internal/config"
)

// DefaultTargets is where a lab's client node has its file.
const DefaultTargets = "/etc/anycastle/client.yml"

// defaultName is what certificates are checked for when a pod has no names.
const defaultName = "smtp.mail.example.org"

// Targets is what the client aims at: the section `client` of its file.
type Targets struct {
	CA        string           `yaml:"ca"`        // PEM file of the authority that certificates are checked against; default /etc/anycastle/tls/ca.pem
	Resolvers []netip.AddrPort `yaml:"resolvers"` // recursive resolvers, which are asked for names; default none: the selectors are asked
	Selectors []netip.AddrPort `yaml:"selectors"` // site selectors; default none
	Pods      []Pod            `yaml:"pods"`      // required
}

// Pod is a set of VIPs with its mailboxes. What is not given is not tried.
type Pod struct {
	Pod        string           `yaml:"pod"`        // label of its events; required where there are several
	SMTP       netip.AddrPort   `yaml:"smtp"`       // VIP with STARTTLS
	Submission netip.AddrPort   `yaml:"submission"` // VIP with STARTTLS
	IMAP       netip.AddrPort   `yaml:"imap"`       // VIP with STARTTLS
	IMAPS      netip.AddrPort   `yaml:"imaps"`      // VIP with TLS from the first byte
	Sites      []netip.AddrPort `yaml:"sites"`      // each site's own SMTP VIP
	Names      Names            `yaml:"names"`      // default none
	Mailboxes  []Account        `yaml:"mailboxes"`  // who gets mail, and sends it; default none
}

// Names are the DNS names of a pod's services. Certificates must be good for them.
type Names struct {
	SMTP       string `yaml:"smtp"`
	Submission string `yaml:"submission"`
	IMAP       string `yaml:"imap"`
}

// of gives the name of a service; empty when there is none.
func (n Names) of(service string) string {
	switch service {
	case ServiceSubmission:
		return n.Submission
	case ServiceIMAP:
		return n.IMAP
	}
	return n.SMTP
}

// Account is a mailbox of the lab.
type Account struct {
	Address  string `yaml:"address"`  // required, unique
	Password string `yaml:"password"` // required
	LUN      string `yaml:"lun"`      // where it lives; label of its events
}

// SetDefaults implements config.Defaulter.
func (t *Targets) SetDefaults() { *t = Targets{CA: "/etc/anycastle/tls/ca.pem"} }

// LoadTargets reads the client's file.
func LoadTargets(path string) (Targets, error) {
	doc, err := config.Load(path)
	if err != nil {
		return Targets{}, err
	}
	return decode(doc)
}

func decode(doc *config.Doc) (t Targets, err error) {
	doc.KnownSections("client")
	t.validate(doc.Decode("client", &t))
	return t, doc.Err()
}

// validate reports what is wrong with the section.
func (t *Targets) validate(at config.Cursor) {
	if len(t.Pods) == 0 {
		at.Key("pods").Errorf("no pod; give one at least")
	}
	labels, addresses := map[string]bool{}, map[string]bool{}
	for i, p := range t.Pods {
		at := at.Key("pods").Index(i)
		if labels[p.Pod] {
			at.Key("pod").Errorf("%q is another pod's label too; give each its own", p.Pod)
		}
		labels[p.Pod] = true
		for j, a := range p.Mailboxes {
			at := at.Key("mailboxes").Index(j)
			if !strings.Contains(a.Address, "@") {
				at.Key("address").Errorf("%q is no address; write one such as alice@example.org", a.Address)
			}
			if addresses[a.Address] {
				at.Key("address").Errorf("%s is there twice; keep one", a.Address)
			}
			addresses[a.Address] = true
			if a.Password == "" {
				at.Key("password").Errorf("no password; give one")
			}
		}
	}
}

// Only keeps the pods with the given labels; none keeps all.
func (t *Targets) Only(labels []string) error {
	for _, l := range labels {
		if !slices.ContainsFunc(t.Pods, func(p Pod) bool { return p.Pod == l }) {
			return fmt.Errorf("no pod %q", l)
		}
	}
	if len(labels) > 0 {
		t.Pods = slices.DeleteFunc(slices.Clone(t.Pods), func(p Pod) bool { return !slices.Contains(labels, p.Pod) })
	}
	return nil
}

// Trust makes a TLS config that trusts one authority, from its PEM file.
func Trust(ca string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("authority of the lab: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New(ca + ": no certificate in it")
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// tlsFor gives the TLS config for a service of a pod. base may be nil where nothing trusts anything, as in tests without TLS.
func tlsFor(base *tls.Config, p Pod, service string) *tls.Config {
	conf := base.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.ServerName = cmp.Or(p.Names.of(service), defaultName)
	return conf
}
