package mailtest

import (
	"os"
	"strings"
)

// Clients that the block list of the site's DNS says something of, or that it does not know.
const (
	listed   = "127.0.0.99"
	errorOf  = "127.0.0.98" // the list gives an error code for it
	unlisted = "127.0.0.97"
)

// zonesText is the node file of a gss that serves a block list, our own domain and those of others. A domain of others has its
// mail server at an address of its own.
const zonesText = `gss:
  listen: ["127.0.0.1:53"]
  state_dir: DIR
  zones:
    - name: bl.example.net
      primary: ns.example.net
      contact: hostmaster.example.net
      records: |
        @          NS ns.example.net.
        2.0.0.127  A  127.0.0.2
        99.0.0.127 A  127.0.0.2
        98.0.0.127 A  127.255.255.254
    - name: example.net
      primary: ns.example.net
      contact: hostmaster.example.net
      records: |
        @    NS  ns
        ns   A   127.0.0.1
        @    MX  10 mail
        mail A   127.0.0.30
    - name: example.com
      primary: ns.example.net
      contact: hostmaster.example.net
      records: |
        @    NS  ns.example.net.
        @    MX  10 mail
        mail A   127.0.0.31
    - name: strict.example.com
      primary: ns.example.net
      contact: hostmaster.example.net
      records: |
        @      NS  ns.example.net.
        @      TXT "v=spf1 ip4:127.0.0.30 -all"
        _dmarc TXT "v=DMARC1; p=reject"
    - name: example.org
      primary: ns.example.net
      contact: hostmaster.example.net
      records: |
        @             NS  ns.example.net.
        @             MX  10 mx
        mx            A   127.0.0.1
        @             TXT "v=spf1 ip4:127.0.0.1 -all"
        _dmarc        TXT "v=DMARC1; p=reject"
        s1._domainkey TXT KEY
`

// zones gives the node file of the gss.
func (s *site) zones() string {
	key := `"v=DKIM1; p="` // of none
	if text, err := os.ReadFile(s.path("dkim.pub")); err == nil {
		key = string(text)
	}
	return strings.NewReplacer("DIR", s.path("gss"), "KEY", key).Replace(zonesText)
}
