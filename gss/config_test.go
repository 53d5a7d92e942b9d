package gss

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"anycastle/internal/config"
)

// nodeFile is a node file that is right. Its first line is line 1.
const nodeFile = `gss:
  listen: [198.51.100.7:53]
  zone:
    name: mail.example.org
    primary: ns-east.mail.example.org
    contact: hostmaster.example.org
    records: |
      @        NS    ns-east
      @        NS    ns-west
      @        NS    ns.example.net.
      ns-east  A     198.51.100.7
      ns-west  A     192.0.2.7
               AAAA  2001:db8::7
      @        MX 10 smtp
      @        TXT   "v=spf1 mx -all"
      www 60   CNAME web
      web      A     192.0.2.80
      alias    CNAME smtp
      away     CNAME www.example.net.
      a.deep   TXT   "below a name without records"
  answers:
    - {name: east-smtp, address: 203.0.113.110, probe: {type: tcp, port: 25, interval: 500ms, timeout: 400ms}}
    - {name: west-smtp, address: 203.0.113.210, probe: {port: 25}}
  answer_groups:
    - {name: smtp, answers: [east-smtp, west-smtp]}
  rules:
    - {name: smtp.mail.example.org, group: smtp}
`

// decode reads a node file's gss section the way that the program does.
func decode(text string) (Config, error) {
	doc, err := config.Parse("node.yml", []byte(text))
	if err != nil {
		return Config{}, err
	}
	var c Config
	c.Validate(doc.Decode("gss", &c))
	return c, doc.Err()
}

func mustDecode(t testing.TB, text string) Config {
	t.Helper()
	c, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConfigDefaults(t *testing.T) {
	c := mustDecode(t, nodeFile)
	got := fmt.Sprintln(c.Zone.TTL, c.Zone.Serial, c.Groups[0].Balance, c.Answers[1].Probe.Type, c.Answers[1].Probe.Interval)
	if want := "5s 1 ordered tcp 1s\n"; got != want {
		t.Errorf("defaults are %q, want %q", got, want)
	}
}

// slip replaces old by new in nodeFile; want is in the complaint.
type slip struct{ old, new, want string }

func runSlips(t *testing.T, slips map[string]slip) {
	for name, tc := range slips {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(nodeFile, tc.old) {
				t.Fatalf("%q is not in the node file", tc.old)
			}
			_, err := decode(strings.Replace(nodeFile, tc.old, tc.new, 1))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("complaint is\n%v\nwant\n%s", err, tc.want)
			}
		})
	}
}

func TestZoneComplaints(t *testing.T) {
	runSlips(t, map[string]slip{
		"no listen":        {"[198.51.100.7:53]", "[]", `2: gss.listen: no address to answer on`},
		"wildcard listen":  {"[198.51.100.7:53]", "[0.0.0.0:53]", `2: gss.listen[0]: 0.0.0.0 is no address of this node`},
		"port 0":           {"198.51.100.7:53", "198.51.100.7:0", `2: gss.listen[0]: port 0 is none; use 53`},
		"listen twice":     {"[198", "[198.51.100.7:53, 198", `2: gss.listen[1]: 198.51.100.7:53 is listed twice`},
		"listen bad":       {"7:53", "7", `2: gss.listen[0]: "198.51.100.7" is not an address and port`},
		"zone nameless":    {"name: mail.example.org", "serial: 2", `3: gss.zone.name: missing`},
		"zone bad":         {"name: mail.example.org", "name: mail..org", `4: gss.zone.name: "mail..org" is no domain name`},
		"zone is root":     {"name: mail.example.org", "name: .", `4: gss.zone.name: "." is no domain name`},
		"ttl long":         {"primary:", "ttl: 2h\n    primary:", `5: gss.zone.ttl: 2h0m0s is not from 1s to 1h0m0s in whole seconds`},
		"ttl fraction":     {"primary:", "ttl: 1500ms\n    primary:", `5: gss.zone.ttl: 1.5s is not`},
		"contact":          {"hostmaster.ex", "hostmaster@ex", `6: gss.zone.contact: "hostmaster@example.org" has an @; a contact is written as a name, such as hostmaster.example.org`},
		"primary dangling": {"primary: ns-east", "primary: ns-north", `5: gss.zone.primary: ns-north.mail.example.org has no address in records`},
		"primary missing":  {"    primary: ns-east.mail.example.org\n", "", `3: gss.zone.primary: missing`},
		"record syntax":    {"ns-east  A     198.51.100.7", "ns-east  A     198.51.100.700", `11: gss.zone.records: no master-file line: bad A A`},
		"record type":      {"www 60   CNAME web", "www 60   RP web web", `16: gss.zone.records: RP records are not served`},
		"record outside":   {"www 60", "www.example.net. 60", `16: gss.zone.records: www.example.net is outside the zone mail.example.org`},
		"record class":     {"www 60   CNAME", "www 60 CH CNAME", `16: gss.zone.records: class CH is not served`},
		"record twice":     {"alias    CNAME smtp", "web      A     192.0.2.80", `18: gss.zone.records: web.mail.example.org has this A record twice`},
		"record ttls":      {"alias    CNAME smtp", "web   9  A     192.0.2.81", `18: gss.zone.records: web.mail.example.org has A records with TTL 5 and 9`},
		"record ttl":       {"www 60  ", "www 2147483648", `16: gss.zone.records: TTL 2147483648 is more than 2147483647`},
		"soa":              {"alias    CNAME smtp", "@ SOA ns.example.net. h.example.net. 1 2 3 4 5", `18: gss.zone.records: the SOA record is made from`},
		"include":          {"alias    CNAME smtp", "$INCLUDE /etc/passwd", `18: gss.zone.records: $INCLUDE is not taken here`},
		"generate":         {"alias    CNAME smtp", "$generate 1-9 w$ A 192.0.2.$", `18: gss.zone.records: $GENERATE is not taken here`},
		"wildcard":         {"alias ", `*     `, `18: gss.zone.records: wildcards are not served`},
		"wildcard escaped": {"alias ", `\042  `, `18: gss.zone.records: wildcards are not served`},
		"delegation":       {"web      A     192.0.2.80", "web NS ns.example.net.", `17: gss.zone.records: delegations are not served`},
		"apex alias":       {"alias ", "@     ", `18: gss.zone.records: the apex has an SOA record`},
		"alias and more":   {"alias ", "web   ", `18: gss.zone.records: web.mail.example.org is an alias and has another record`},
		"more at an alias": {"away     CNAME www.example.net.", `alias TXT ""`, `19: gss.zone.records: alias.mail.example.org is an alias and has another record`},
		"alias dangling":   {"CNAME web", "CNAME wed", `16: gss.zone.records: the CNAME of www.mail.example.org leads to wed.mail.example.org, which is not`},
		"alias circle":     {"CNAME smtp", "CNAME alias", `18: gss.zone.records: the CNAME of alias.mail.example.org leads through more than 7 others or in a circle`},
		"ns dangling":      {"ns-west  A", "ns-vest  A", `9: gss.zone.records: the NS record of mail.example.org points to ns-west.mail.example.org, which has no address`},
		"mx to an alias":   {"MX 10 smtp", "MX 10 www", `14: gss.zone.records: the MX record of mail.example.org points to www.mail.example.org, which has no address`},
		"bracketed":        {`TXT   "v=spf1 mx -all"`, "TXT   (\n        one\n        ) \n      @ A 192.0.2.1\n      @ A 192.0.2.1", `19: gss.zone.records: mail.example.org has this A record twice`},
	})
}

func TestSteeringComplaints(t *testing.T) {
	runSlips(t, map[string]slip{
		"answer nameless":   {"{name: west-smtp, ", "{", `23: gss.answers[1].name: missing; give the answer a name`},
		"answer badly":      {"name: west-smtp", `name: "west smtp"`, `23: gss.answers[1].name: "west smtp" is no name`},
		"answer twice":      {"name: west-smtp", "name: east-smtp", `23: gss.answers[1].name: another answer is called "east-smtp"`},
		"answer ipv6":       {"203.0.113.210", "2001:db8::210", `23: gss.answers[1].address: 2001:db8::210 is IPv6, which rules do not answer with in this version`},
		"answer any":        {"203.0.113.210", "0.0.0.0", `23: gss.answers[1].address: 0.0.0.0 is no address that a client can connect to`},
		"answer homeless":   {"address: 203.0.113.210, ", "", `23: gss.answers[1].address: missing`},
		"probe portless":    {"{port: 25}", "{fail: 3}", `23: gss.answers[1].probe.port: missing`},
		"probe key":         {"{port: 25}", "{port: 25, path: /}", `23: gss.answers[1].probe.path: a probe of type tcp does not take it`},
		"probe bad":         {"timeout: 400ms", "timeout: 600ms", `22: gss.answers[0].probe.timeout: 600ms must be`},
		"group method":      {"name: smtp, answers", "name: smtp, balance: fastest, answers", `25: gss.answer_groups[0].balance: no balance method is called "fastest"; use ordered`},
		"group empty":       {"answers: [east-smtp, west-smtp]", "answers: []", `25: gss.answer_groups[0].answers: 0 answers`},
		"group dangling":    {"[east-smtp, west-smtp]", "[east-smtp, wset-smtp]", `25: gss.answer_groups[0].answers[1]: no answer is called "wset-smtp"; did you mean west-smtp?`},
		"group same twice":  {"[east-smtp, west-smtp]", "[east-smtp, east-smtp]", `25: gss.answer_groups[0].answers[1]: east-smtp has the address 203.0.113.110, and so has east-smtp`},
		"rule dangling":     {"group: smtp}", "group: pop3}", `27: gss.rules[0].group: no answer group is called "pop3"; known here: smtp`},
		"rule outside":      {"{name: smtp.mail.example.org", "{name: smtp.mail.example.net", `27: gss.rules[0].name: smtp.mail.example.net is outside the zone`},
		"rule wildcard":     {"{name: smtp.mail", `{name: "*.mail`, `not YAML`},
		"rule no host":      {"{name: smtp.mail.example.org", "{name: s!.mail.example.org", `27: gss.rules[0].name: "s!.mail.example.org" is no host name`},
		"rule twice":        {"group: smtp}\n", "group: smtp}\n    - {name: SMTP.mail.example.org., group: smtp}\n", `28: gss.rules[1].name: smtp.mail.example.org has a rule already`},
		"rule meets record": {"{name: smtp.mail", "{name: web.mail", `27: gss.rules[0].name: web.mail.example.org has A records too`},
		"no answers":        {"answers:\n    -", "unknown:\n    -", `21: gss.unknown: unknown key`},
	})
}

func TestProbeWithoutAPort(t *testing.T) {
	c, err := decode(strings.Replace(nodeFile, "{port: 25}", "{type: icmp}", 1))
	if err != nil || c.Answers[1].Probe.Type != "icmp" {
		t.Errorf("an echo probe gives %v", err)
	}
}

func TestConfigWithNothingInIt(t *testing.T) {
	_, err := decode("gss:\n")
	for _, want := range []string{"gss.listen", "gss.zone.name", "gss.answers"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("complaint is\n%v\nwhich says nothing of %s", err, want)
		}
	}
	if _, err := New(Config{}, Options{}); err == nil {
		t.Error("New takes a config that Validate refuses")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(nodeFile)
	f.Add("gss:\n  zone: {name: example.org, records: \"@ NS ns\\n\"}\n")
	f.Add("gss: {listen: ['[::1]:53'], rules: [{}], answers: [{}], answer_groups: [{}]}")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := decode(text)
		if err != nil {
			return
		}
		if doc, _ := config.Parse("node.yml", []byte(text)); doc.Has("gss") {
			if _, err := New(c, Options{}); err != nil {
				t.Errorf("New refuses what Validate takes: %v", err)
			}
		}
	})
}

func FuzzRecords(f *testing.F) {
	_, records, _ := strings.Cut(nodeFile, "records: |")
	records, _, _ = strings.Cut(records, "  answers:")
	f.Add(records)
	f.Add("$TTL 1h\n$ORIGIN sub\n@ A 192.0.2.1\n")
	f.Add("a TXT ( \"x\"\n ; comment\n \"y\" )\n\n b A 192.0.2.1")
	f.Add(`\097 CNAME \@.` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		c := mustDecode(t, nodeFile)
		c.Zone.Records = text
		var lines int
		err := config.Check("node", func(at config.Cursor) {
			records, line, err := parseRecords(text, "mail.example.org.", 5)
			for _, r := range records {
				if r.line < lines {
					t.Errorf("record %v is on line %d, before the one before it", r.rr, r.line)
				}
				lines = r.line
			}
			if last := strings.Count(text, "\n") + 1; lines > last || line > last {
				t.Errorf("line %d or %d of a text with %d lines", lines, line, last)
			}
			if err != nil {
				at.Errorf("%v", err)
			}
			c.Validate(at)
		})
		if err != nil {
			return
		}
		z := c.compile(config.Cursor{})
		for name := range z.nodes {
			for _, rrtype := range slices.Concat(recordTypes, []uint16{dns.TypeANY, dns.TypeSOA}) {
				checkReply(t, z, question(name, rrtype), overUDP)
				checkReply(t, z, question(name, rrtype), overTCP)
			}
		}
	})
}
