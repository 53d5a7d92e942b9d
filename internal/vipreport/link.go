package vipreport

import (
	"crypto/tls"
	"errors"
)

// Offer gives the settings of a balancer's side of a link (mtls.Material.Server) that speaks Protocol and nothing else.
func Offer(link *tls.Config) *tls.Config {
	link = link.Clone()
	link.NextProtos = []string{Protocol}
	if of := link.GetConfigForClient; of != nil {
		link.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c, err := of(hello)
			if c != nil {
				c = c.Clone()
				c.NextProtos = []string{Protocol}
			}
			return c, err
		}
	}
	return link
}

// ErrProtocol says that who answers speaks something else.
var ErrProtocol = errors.New("no balancer that reports answers here")

// Ask gives the settings of a site selector's side (mtls.Material.Client).
func Ask(link *tls.Config) *tls.Config {
	link = link.Clone()
	link.NextProtos = []string{Protocol}
	verify := link.VerifyConnection
	link.VerifyConnection = func(state tls.ConnectionState) error {
		if verify != nil {
			if err := verify(state); err != nil {
				return err
			}
		}
		if state.NegotiatedProtocol != Protocol {
			return ErrProtocol
		}
		return nil
	}
	return link
}
