package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"anycastle/internal/config"

	"github.com/miekg/dns"
)

// dnsProbe is the probe of DNS over UDP, and over TCP where the reply does not fit.
type dnsProbe struct {
	config *Config
	query  dns.Msg
	rcode  int
	answer dns.RR // nil: any
}

func newDNS(c *Config) (*dnsProbe, error) {
	p := &dnsProbe{config: c}
	var faults []error
	p.read(func(key, text string) { faults = append(faults, fmt.Errorf("%s: %s", key, text)) })
	return p, errors.Join(faults...)
}

func (c *Config) checkDNS(at config.Cursor) {
	p := &dnsProbe{config: c}
	p.read(func(key, text string) { at.Key(key).Errorf("%s", text) })
}

// read makes the probe's query and what is expected of the config, and says what is wrong with it.
func (p *dnsProbe) read(complain func(key, text string)) {
	c := p.config
	kind, ok := dns.StringToType[strings.ToUpper(or(c.QueryType, "A"))]
	if !ok {
		complain("query_type", fmt.Sprintf("%q is no type of record; use one such as A, AAAA, MX, NS or SOA", c.QueryType))
	}
	if p.rcode, ok = dns.StringToRcode[strings.ToUpper(or(c.RCode, "NOERROR"))]; !ok {
		complain("rcode", fmt.Sprintf("%q is no code of a reply; use one such as NOERROR, NXDOMAIN or REFUSED", c.RCode))
	}
	if _, ok := dns.IsDomainName(c.Query); !ok || c.Query == "" {
		complain("query", fmt.Sprintf("%q is no name to ask for; give one such as example.org", c.Query))
		return
	}
	p.query.SetQuestion(dns.Fqdn(c.Query), kind)
	if c.Answer == "" {
		return
	}
	rr, err := dns.NewRR(fmt.Sprintf("%s 0 IN %s %s", dns.Fqdn(c.Query), dns.TypeToString[kind], c.Answer))
	if err != nil || rr == nil || rr.Header().Rrtype != kind || strings.ContainsAny(c.Answer, "\r\n") {
		complain("answer", fmt.Sprintf("%q is no data of a record of type %s", c.Answer, dns.TypeToString[kind]))
		return
	}
	p.answer = rr
}

func (p *dnsProbe) probe(ctx context.Context, t Target, _ *Advice) error {
	reply, err := p.exchange(ctx, t, "udp")
	if err == nil && reply.Truncated && p.answer != nil {
		reply, err = p.exchange(ctx, t, "tcp")
	}
	if err != nil {
		return err
	}
	if reply.Rcode != p.rcode {
		return fmt.Errorf("%s, want %s", rcodeName(reply.Rcode), rcodeName(p.rcode))
	}
	if p.answer == nil {
		return nil
	}
	for _, rr := range reply.Answer {
		// the name may be that of an alias
		rr.Header().Name = p.answer.Header().Name
		if dns.IsDuplicate(rr, p.answer) {
			return nil
		}
	}
	return fmt.Errorf("%s is not among %d answers", p.config.Answer, len(reply.Answer))
}

func rcodeName(code int) string {
	if name, ok := dns.RcodeToString[code]; ok {
		return name
	}
	return fmt.Sprintf("rcode %d", code)
}

// exchange sends the query and gives the reply to it.
func (p *dnsProbe) exchange(ctx context.Context, t Target, network string) (*dns.Msg, error) {
	conn, err := t.dial(ctx, network)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	query := p.query
	query.Id = dns.Id()
	wire, err := query.Pack()
	if err != nil {
		return nil, fmt.Errorf("make the query: %w", err)
	}
	receive := receiveDatagram
	if network == "tcp" {
		receive = receiveFramed
		wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	}
	if _, err := conn.Write(wire); err != nil {
		return nil, cause(err, p.config.Timeout)
	}
	for {
		packet, err := receive(conn)
		if err != nil {
			return nil, cause(err, p.config.Timeout)
		}
		reply, mine, err := parseReply(packet, &query)
		if mine {
			return reply, err
		}
		// it answers another question than ours, as one does that somebody guessed
	}
}

// parseReply says whether a packet is a reply to the query, and reads it.
func parseReply(packet []byte, query *dns.Msg) (reply *dns.Msg, mine bool, err error) {
	if len(packet) < 12 || binary.BigEndian.Uint16(packet) != query.Id || packet[2]&0x80 == 0 {
		return nil, false, nil
	}
	reply = &dns.Msg{}
	if err := reply.Unpack(packet); err != nil {
		return nil, true, fmt.Errorf("malformed reply: %w", err)
	}
	// a server that cannot read a question does not repeat it (RFC 1035 section 4.1.1)
	if len(reply.Question) == 0 && reply.Rcode != dns.RcodeSuccess {
		return reply, true, nil
	}
	q := query.Question[0]
	if len(reply.Question) != 1 || !strings.EqualFold(reply.Question[0].Name, q.Name) || reply.Question[0].Qtype != q.Qtype {
		return nil, false, nil
	}
	return reply, true, nil
}

func receiveDatagram(conn net.Conn) ([]byte, error) {
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	return buf[:n], err
}

func receiveFramed(conn net.Conn) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, buf)
	return buf, err
}
