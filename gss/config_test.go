package gss

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"anycastle/internal/config"
)

// nodeFile is a node file that is right. Its first line is line 1.
const nodeFile = `gss:
  name: gss-east
  listen: [198.51.100.7:53]
  zones:
    - name: mail.example.org
      primary: ns-east.mail.example.org
      contact: hostmaster.example.org
      records: |
        @        NS    ns-east
        @        NS    ns.example.net.
        ns-east  A     198.51.100.7
        web      A     192.0.2.80
        alias    CNAME smtp
        other    MX 10 smtp
        a.deep   TXT   "below a name without records"
  answers:
    - name: smtp-east
      site: east
      addresses: [203.0.113.110, "2001:db8::110"]
      target: mx-east.example.org
      probes: [{type: tcp, port: 25, interval: 500ms, timeout: 400ms}]
    - name: smtp-west
      site: west
      addresses: [203.0.113.210]
      target: mx-west.example.org
      probes: [{port: 25, interval: 500ms, timeout: 400ms, fail: 3}]
  answer_groups:
    - {name: smtp, answers: [smtp-east, smtp-west]}
    - {name: west, answers: [smtp-west]}
  sources:
    - {name: branch, prefixes: [192.0.2.0/24, "2001:db8:1::/48"]}
    - {name: lab, prefixes: [192.0.2.128/25]}
  rules:
    - {name: lab, domains: [smtp.mail.example.org], sources: [lab], clauses: [{group: west, ttl: 60s}]}
    - name: smtp
      domains: [smtp.mail.example.org, "*.pop.mail.example.org"]
      near: [{sources: branch, sites: [west]}]
      clauses: [{group: smtp, balance: nearest}]
    - name: mx
      domains: [mail.example.org, _submission._tcp.mail.example.org]
      clauses: [{group: smtp, count: 2}]
      records: {MX: "{order} {target}", SRV: "{order} {weight} 587 {target}", HTTPS: "1 . alpn=h2 {ipv4hint} {ipv6hint}"}
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
	c.StateDir = t.TempDir()
	return c
}

func TestConfigDefaults(t *testing.T) {
	c := mustDecode(t, nodeFile)
	cl := c.Rules[1].Clauses[0]
	got := fmt.Sprintln(c.Zones[0].TTL, c.Zones[0].Serial, c.Answers[0].Weight, c.Answers[0].FailBack, c.Answers[1].Probes[0].Type,
		c.Rules[0].Clauses[0].Balance, c.Rules[0].Clauses[0].shortTTL(), cl.Count, cl.TTL, cl.shortTTL(), c.Load)
	if want := "5s 1 100 10s tcp ordered 30s 1 5s 2s {90 75 20 3s}\n"; got != want {
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
		"name":             {"gss-east", `"gss east"`, `2: gss.name: "gss east" is no name`},
		"query log":        {"  name: gss-east", "  query_log: {every: 2}", `2: gss.query_log.file: missing`},
		"query log every":  {"  name: gss-east", "  query_log: {file: /tmp/x, every: 0}", `2: gss.query_log.every: 0 is no number`},
		"mesh name":        {"  name: gss-east", "  name: gss-east\n  mesh: {listen: \"198.51.100.7:7946\", key: \"0f0102030405060708090a0b0c0d0e0f\", name: x}", `3: gss.mesh.name: "x" is not gss.name, which is "gss-east"`},
		"mesh key":         {"  name: gss-east", "  mesh: {listen: \"198.51.100.7:7946\"}", `2: gss.mesh.key: missing`},
		"no listen":        {"[198.51.100.7:53]", "[]", `3: gss.listen: no address to answer on`},
		"wildcard listen":  {"[198.51.100.7:53]", "[0.0.0.0:53]", `3: gss.listen[0]: 0.0.0.0 is no address of this node`},
		"port 0":           {"198.51.100.7:53", "198.51.100.7:0", `3: gss.listen[0]: port 0 is none; use 53`},
		"listen twice":     {"[198", "[198.51.100.7:53, 198", `3: gss.listen[1]: 198.51.100.7:53 is listed twice`},
		"listen bad":       {"7:53", "7", `3: gss.listen[0]: "198.51.100.7" is not an address and port`},
		"no state":         {"name: gss-east", `state_dir: ""`, `2: gss.state_dir: missing`},
		"zone nameless":    {"name: mail.example.org", "serial: 2", `5: gss.zones[0].name: missing`},
		"zone bad":         {"name: mail.example.org", "name: mail..org", `5: gss.zones[0].name: "mail..org" is no domain name`},
		"zone is root":     {"name: mail.example.org", "name: .", `5: gss.zones[0].name: "." is no domain name`},
		"ttl long":         {"primary:", "ttl: 2h\n      primary:", `6: gss.zones[0].ttl: 2h0m0s is not from 1s to 1h0m0s in whole seconds`},
		"ttl fraction":     {"primary:", "ttl: 1500ms\n      primary:", `6: gss.zones[0].ttl: 1.5s is not`},
		"contact":          {"hostmaster.ex", "hostmaster@ex", `7: gss.zones[0].contact: "hostmaster@example.org" has an @; a contact is written as a name, such as hostmaster.example.org`},
		"primary missing":  {"      primary: ns-east.mail.example.org\n", "", `5: gss.zones[0].primary: missing`},
		"record syntax":    {"A     198.51.100.7\n", "A     198.51.100.700\n", `11: gss.zones[0].records: `},
		"record outside":   {"web  ", "web.example.net. ", `12: gss.zones[0].records: `},
		"second SOA":       {"alias    CNAME smtp", "@ SOA ns.example.net. h.example.net. 1 2 3 4 5", `8: gss.zones[0].records: 2 SOA records; keep one`},
		"alias and more":   {"alias ", "web   ", `gss.zones[0].records: `},
		"no NS":            {"        @        NS    ns-east\n        @        NS    ns.example.net.\n", "", `gss.zones[0].records: `},
		"mx dangling":      {"MX 10 smtp", "MX 10 snmp", `14: gss.zones[0].records: the MX record of other.mail.example.org. names snmp.mail.example.org., which has no address`},
		"file and records": {"name: mail.example.org", "name: mail.example.org\n      file: x.zone", `gss.zones[0].records: is not taken beside file`},
		"dnssec algorithm": {"primary:", "dnssec: {algorithm: rsasha1}\n      primary:", `6: gss.zones[0].dnssec: algorithm 5: `},
		"dnssec word":      {"primary:", "dnssec: {algorithm: best}\n      primary:", `6: gss.zones[0].dnssec.algorithm: no algorithm is called "best"`},
		"dnssec life":      {"primary:", "dnssec: {lifetime: 1h}\n      primary:", `6: gss.zones[0].dnssec: a key lives for 1h0m0s, but a roll takes`},
		"dnssec parent":    {"primary:", "dnssec: {resolver: \"192.0.2.1:53\", parent_servers: [\"192.0.2.2:53\"]}\n      primary:", `6: gss.zones[0].dnssec.resolver: is not taken beside parent_servers`},
		"zone twice":       {"  answers:", "    - {name: MAIL.example.org., primary: a.example.net, contact: a.example.net, records: \"@ NS a.example.net.\"}\n  answers:", `16: gss.zones[1].name: mail.example.org is listed twice`},
	})
}

func TestSteeringComplaints(t *testing.T) {
	runSlips(t, map[string]slip{
		"answer nameless":     {"name: smtp-west\n      site", "site", `22: gss.answers[1].name: missing; give the answer a name`},
		"answer badly":        {"name: smtp-west", `name: "smtp west"`, `22: gss.answers[1].name: "smtp west" is no name`},
		"answer twice":        {"name: smtp-west", "name: smtp-east", `22: gss.answers[1].name: another answer is called "smtp-east"`},
		"answer any":          {"203.0.113.210", "0.0.0.0", `24: gss.answers[1].addresses[0]: 0.0.0.0 is no address that a client can connect to`},
		"answer mapped":       {"203.0.113.210", `"::ffff:203.0.113.210"`, `24: gss.answers[1].addresses[0]: ::ffff:203.0.113.210 is no address`},
		"answer homeless":     {"[203.0.113.210]", "[]", `24: gss.answers[1].addresses: 0 addresses`},
		"address twice":       {"[203.0.113.210]", "[203.0.113.210, 203.0.113.210]", `24: gss.answers[1].addresses[1]: 203.0.113.210 is listed twice`},
		"weight":              {"target: mx-west.example.org", "weight: 0", `25: gss.answers[1].weight: 0 is not from 1 to 1000`},
		"fail back":           {"target: mx-west.example.org", "fail_back: 2h", `25: gss.answers[1].fail_back: 2h0m0s is not from 0s to 1h`},
		"target":              {"mx-west.example.org", "mx!west", `25: gss.answers[1].target: "mx!west" is no host name`},
		"no probes":           {"[{port: 25, interval: 500ms, timeout: 400ms, fail: 3}]", "[]", `26: gss.answers[1].probes: none, so that nobody would notice`},
		"probe portless":      {"{port: 25,", "{fail: 1,", `26: gss.answers[1].probes[0]`},
		"probe key":           {"{port: 25,", "{port: 25, path: /,", `26: gss.answers[1].probes[0].path: a probe of type tcp does not take it`},
		"group empty":         {"answers: [smtp-west]", "answers: []", `29: gss.answer_groups[1].answers: 0 answers`},
		"group dangling":      {"answers: [smtp-west]", "answers: [smtp-wset]", `29: gss.answer_groups[1].answers[0]: no answer is called "smtp-wset"; did you mean smtp-west?`},
		"group same twice":    {"answers: [smtp-west]", "answers: [smtp-west, smtp-west]", `29: gss.answer_groups[1].answers[1]: smtp-west has the address 203.0.113.210, and so has smtp-west`},
		"prefix bits":         {"192.0.2.128/25", "192.0.2.129/25", `32: gss.sources[1].prefixes[0]: 192.0.2.129/25 has bits beyond its length; write 192.0.2.128/25`},
		"list empty":          {"prefixes: [192.0.2.128/25]", "prefixes: []", `32: gss.sources[1].prefixes: none`},
		"list dangling":       {"sources: [lab]", "sources: [lap]", `34: gss.rules[0].sources[0]: no list of sources is called "lap"; did you mean lab?`},
		"clause dangling":     {"{group: west, ttl: 60s}", "{group: vest}", `34: gss.rules[0].clauses[0].group: no answer group is called "vest"; did you mean west?`},
		"clauses":             {"[{group: west, ttl: 60s}]", "[]", `34: gss.rules[0].clauses: 0 clauses; give from 1 to 3`},
		"balance":             {"balance: nearest", "balance: fastest", `no balance method is called "fastest"; there are ["ordered" "round-robin"`},
		"near missing":        {"      near: [{sources: branch, sites: [west]}]\n", "", `gss.rules[1].near: missing, and a clause balances by nearest`},
		"near unused":         {"balance: nearest", "balance: ordered", `37: gss.rules[1].near: no clause balances by nearest`},
		"near nowhere":        {"sites: [west]", "sites: [vest]", `37: gss.rules[1].near[0].sites[0]: no answer is at a site "vest"; did you mean west?`},
		"count":               {"count: 2", "count: 0", `gss.rules[2].clauses[0].count: 0 is not from 1 to 32`},
		"ttl":                 {"ttl: 60s", "ttl: 0s", `34: gss.rules[0].clauses[0].ttl: 0s is not from 1s to 1h0m0s`},
		"short ttl":           {"ttl: 60s", "ttl: 5s, short_ttl: 6s", `34: gss.rules[0].clauses[0].short_ttl: 6s is longer than ttl, which is 5s`},
		"no domains":          {"[mail.example.org, _submission._tcp.mail.example.org]", "[]", `40: gss.rules[2].domains: none`},
		"domain outside":      {"[mail.example.org, ", "[mail.example.net, ", `40: gss.rules[2].domains[0]: mail.example.net is in none of the zones`},
		"domain no host":      {"[mail.example.org, ", "[m!.mail.example.org, ", `40: gss.rules[2].domains[0]: "m!.mail.example.org" is no host name`},
		"rule meets record":   {"domains: [smtp.mail.example.org, ", "domains: [web.mail.example.org, ", `36: gss.rules[1].domains[0]: web.mail.example.org. has A records in the zone file too`},
		"rule meets alias":    {"domains: [smtp.mail.example.org, ", "domains: [alias.mail.example.org, ", `36: gss.rules[1].domains[0]: alias.mail.example.org. is an alias in the zone file`},
		"rule never counts":   {", sources: [lab]", "", `36: gss.rules[1].domains[0]: the rule lab takes all clients who ask for smtp.mail.example.org A and AAAA, so this one never counts; move this rule before lab, or give lab sources`},
		"record type":         {"{MX:", "{MXX:", `42: gss.rules[2].records.MXX: no record type is called "MXX"`},
		"record not a rule's": {"{MX: \"{order} {target}\"", "{NS: \"{target}\"", `42: gss.rules[2].records.NS: NS records are not a rule's to make`},
		"record data":         {"\"{order} {target}\"", "\"{target}\"", `42: gss.rules[2].records.MX: "mx-east.example.org." is no data of a record of type MX, as its Pref (in "mx-east.example.org.")`},
		"record of address":   {"MX: \"{order} {target}\"", "A: \"203.0.113.1\"", `42: gss.rules[2].records.A: the data of A and AAAA is {address}`},
		"placeholder":         {"\"{order} {target}\"", "\"{order} {tarjet}.\"", `42: gss.rules[2].records.MX: no placeholder {tarjet}; did you mean {target}?`},
		"placeholder open":    {"\"{order} {target}\"", "\"{order} {target\"", `42: gss.rules[2].records.MX: no placeholder {; known here: {target}, {order}, {weight}`},
		"placeholder shut":    {"\"{order} {target}\"", "\"{order} {target}}\"", `42: gss.rules[2].records.MX: no placeholder };`},
		"placeholder nested":  {"\"{order} {target}\"", "\"{order} {{target}}\"", `42: gss.rules[2].records.MX: no placeholder { };`},
		"no target":           {"      target: mx-west.example.org\n", "", `gss.rules[2].records.MX: smtp-west has no target; give it one, such as mx-west.example.org`},
		"load":                {"  name: gss-east", "  load: {enter: 50}", `2: gss.load.leave: 75 is not from 1 to enter`},
		"slew":                {"  name: gss-east", "  load: {slew: 0}", `2: gss.load.slew: 0 is no percentage`},
		"no answers":          {"answers:\n    - name", "unknown:\n    - name", `16: gss.unknown: unknown key`},
	})
}

// The answers of every clause count for what records are made of.
func TestTargetMissingInALaterClause(t *testing.T) {
	text := strings.Replace(nodeFile, "      target: mx-east.example.org\n", "", 1)
	text = strings.Replace(text, "clauses: [{group: smtp, count: 2}]", "clauses: [{group: west}, {group: smtp}]", 1)
	const want = `41: gss.rules[2].records.MX: smtp-east has no target; give it one, such as mx-east.example.org`
	if _, err := decode(text); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("complaint is\n%v\nwant\n%s", err, want)
	}
}

// The braces of a dohpath are its own.
func TestPathOfATemplate(t *testing.T) {
	if _, err := decode(strings.Replace(nodeFile, "alpn=h2 ", "alpn=h2 dohpath=/q{?dns} ", 1)); err != nil {
		t.Errorf("a path is refused: %v", err)
	}
}

// One slip makes one complaint.
func TestOneComplaintForASlip(t *testing.T) {
	for _, tc := range []struct{ old, new string }{
		{"{MX:", "{MXX:"},
		{"{MX: \"{order} {target}\"", "{NS: \"{target}\""},
		{"balance: nearest", "balance: neerest"},
		{", sources: [lab]", ""},
	} {
		_, err := decode(strings.Replace(nodeFile, tc.old, tc.new, 1))
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s gives\n%v", tc.new, err)
		}
	}
}

func TestProbeWithoutAPort(t *testing.T) {
	c, err := decode(strings.Replace(nodeFile, "{port: 25, interval: 500ms, timeout: 400ms, fail: 3}", "{type: icmp}", 1))
	if err != nil || c.Answers[1].Probes[0].Type != "icmp" {
		t.Errorf("an echo probe gives %v", err)
	}
}

func TestZoneFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mail.example.org.zone")
	_, rest, _ := strings.Cut(nodeFile, "  answers:")
	text := "gss:\n  listen: [198.51.100.7:53]\n  zones:\n    - {name: mail.example.org, file: " + path + "}\n  answers:" + rest
	if _, err := decode(text); err == nil || !strings.Contains(err.Error(), "4: gss.zones[0].file: ") {
		t.Errorf("without the file the complaint is %v", err)
	}
	write := func(records string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(records), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("@ 60 SOA ns h 7 3600 600 86400 5\n@ 60 NS ns\nns 60 A 198.51.100.7\nns 60 A 198.51.100.700\n")
	if _, err := decode(text); err == nil || !strings.Contains(err.Error(), "4: gss.zones[0].file: "+path+":4: ") {
		t.Errorf("with a bad line the complaint is %v", err)
	}
	write("@ 60 SOA ns h 7 3600 600 86400 5\n@ 60 NS ns\nns 60 A 198.51.100.7\n")
	g, err := New(mustDecode(t, text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if z := g.Zones(); len(z) != 1 || z[0].Serial != 7 || z[0].Records != 3 || z[0].File != path || z[0].Dynamic != 4 {
		t.Errorf("the zones are %+v", z)
	}
}

func TestConfigWithNothingInIt(t *testing.T) {
	_, err := decode("gss:\n")
	for _, want := range []string{"gss.listen", "gss.zones"} {
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
	f.Add("gss:\n  zones: [{name: example.org, records: \"@ NS ns\\n\"}]\n")
	f.Add(primaryFile())
	f.Add(secondaryFile("{address: 192.0.2.53:53}"))
	f.Add("gss: {listen: ['[::1]:53'], rules: [{}], answers: [{}], answer_groups: [{}], sources: [{}]}")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") {
			return // the machine's files are not the fuzzer's
		}
		c, err := decode(text)
		if err != nil {
			return
		}
		if doc, _ := config.Parse("node.yml", []byte(text)); doc.Has("gss") {
			g, err := New(c, Options{})
			if err != nil {
				t.Fatalf("New refuses what Validate takes: %v", err)
			}
			for name, types := range g.engine.next.rules.names {
				for rrtype := range types {
					if z := g.engine.next.zones.Find(name, rrtype); z == nil || rrtype == dns.TypeNone {
						t.Errorf("%s is in no zone", name)
					}
				}
			}
		}
	})
}
