package gss

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycastle/gss/transfer"
)

// keysHere is where the node file takes keys, at its line 16.
const keysHere = "  answers:\n    - name: smtp-east"

func keyed(keys string) string { return "  tsig_keys: " + keys + "\n" + keysHere }

func TestTransferComplaints(t *testing.T) {
	zone := func(text string) string { return "name: mail.example.org\n      " + text }
	const name, good = "name: mail.example.org", "secret: YSBzZWNyZXQgdGhhdCBpcyBsb25nIGVub3VnaA=="
	runSlips(t, map[string]slip{
		"signed":             {"      primary:", "      dnssec: {}\n      transfer: {to: [{prefix: 192.0.2.53/32}]}\n      primary:", `7: gss.zones[0].transfer: a secondary would have the zone without signatures`},
		"key nameless":       {keysHere, keyed("[{" + good + "}]"), `16: gss.tsig_keys[0].name: missing; give a domain name`},
		"key's name":         {keysHere, keyed("[{name: k!, " + good + "}]"), `16: gss.tsig_keys[0].name: "k!" is no host name`},
		"key twice":          {keysHere, keyed("[{name: k, " + good + "}, {name: K, " + good + "}]"), `16: gss.tsig_keys[1].name: another key is called "K"; rename one`},
		"key's algorithm":    {keysHere, keyed("[{name: k, algorithm: hmac-md5, " + good + "}]"), `16: gss.tsig_keys[0].algorithm: no algorithm is called "hmac-md5"; there are ["hmac-sha256"`},
		"no secret":          {keysHere, keyed("[{name: k}]"), `16: gss.tsig_keys[0].secret: missing; give a secret in base64`},
		"secret no base64":   {keysHere, keyed("[{name: k, secret: a secret}]"), `16: gss.tsig_keys[0].secret: it is not base64`},
		"secret short":       {keysHere, keyed("[{name: k, secret: c2hvcnQ=}]"), `16: gss.tsig_keys[0].secret: 5 bytes are too few; use 16 or more`},
		"secret twice":       {keysHere, keyed("[{name: k, secret_file: x, " + good + "}]"), `16: gss.tsig_keys[0].secret_file: is not taken beside secret`},
		"secret file":        {keysHere, keyed("[{name: k, secret_file: /nowhere/key}]"), `16: gss.tsig_keys[0].secret_file: open /nowhere/key: no such file`},
		"to anybody":         {name, zone("transfer: {to: [{}]}"), `6: gss.zones[0].transfer.to[0]: everybody may have the zone`},
		"to no prefix":       {name, zone("transfer: {to: [{prefix: everybody}]}"), `6: gss.zones[0].transfer.to[0].prefix: "everybody" is no`},
		"to prefix":          {name, zone("transfer: {to: [{prefix: 192.0.2.1/24}]}"), `6: gss.zones[0].transfer.to[0].prefix: 192.0.2.1/24 has bits beyond its length; write 192.0.2.0/24`},
		"to dangling":        {name, zone("transfer: {to: [{key: k}]}"), `6: gss.zones[0].transfer.to[0].key: no key is called "k"; there is none yet, so define it`},
		"notify homeless":    {name, zone("notify: [{}]"), `6: gss.zones[0].notify[0].address: missing; give one such as 192.0.2.53:53`},
		"notify any":         {name, zone("notify: [{address: 0.0.0.0:53}]"), `6: gss.zones[0].notify[0].address: 0.0.0.0 is no address of a server`},
		"notify port":        {name, zone("notify: [{address: 192.0.2.53:0}]"), `6: gss.zones[0].notify[0].address: port 0 is none; use 53`},
		"notify twice":       {name, zone("notify: [{address: 192.0.2.53:53}, {address: 192.0.2.53:53}]"), `6: gss.zones[0].notify[1].address: 192.0.2.53:53 is listed twice; keep one`},
		"notify dangling":    {name, zone("notify: [{address: 192.0.2.53:53, key: k}]"), `6: gss.zones[0].notify[0].key: no key is called "k"`},
		"no primaries":       {name, zone("primaries: []"), `6: gss.zones[0].primaries: none; give at least one, such as [{address: 192.0.2.53:53}]`},
		"primary and record": {name, zone("primaries: [{address: 192.0.2.53:53}]"), `9: gss.zones[0].records: is not taken beside primaries, which has it; keep one of them`},
		"primary and file":   {name, zone("primaries: [{address: 192.0.2.53:53}]\n      file: x"), `7: gss.zones[0].file: is not taken beside primaries`},
		"size and records":   {name, zone("max_size: 4096"), `6: gss.zones[0].max_size: is taken only with primaries; remove it`},
		"size too small":     {name, zone("primaries: [{address: 192.0.2.53:53}]\n      max_size: 64"), `7: gss.zones[0].max_size: 64 is not from 1024 to 1073741824 bytes; 67108864 suits most`},
		"primary's address":  {name, zone("primaries: [{address: 192.0.2.53}]"), `6: gss.zones[0].primaries[0].address: "192.0.2.53" is not an address and port`},
	})
}

// secondaryFile is nodeFile with a zone that comes from primaries, and has the rules' names.
func secondaryFile(primaries string) string {
	head, rest, _ := strings.Cut(nodeFile, "  zones:\n")
	_, rest, _ = strings.Cut(rest, "  answers:\n")
	return head + "  zones:\n    - {name: mail.example.org, primaries: [" + primaries + "], transfer: {to: [{prefix: 127.0.0.0/8}]}}\n  answers:\n" + rest
}

// A config that no node file is behind is checked as well.
func TestTransfersWithoutANodeFile(t *testing.T) {
	for _, text := range []string{primaryFile(), secondaryFile("{address: 192.0.2.53:53}")} {
		c := mustDecode(t, text)
		c.checked = nil
		if _, err := New(c, Options{}); err != nil {
			t.Error(err)
		}
		c.Zones[0].Transfer.To = []Secondary{{}}
		if _, err := New(c, Options{}); err == nil || !strings.Contains(err.Error(), "everybody may have the zone") {
			t.Errorf("a zone for everybody gives %v", err)
		}
	}
}

// What a zone may take is said to who takes it.
func TestMaxSizeOfAZone(t *testing.T) {
	text := secondaryFile("{address: 192.0.2.53:53}")
	for size, want := range map[string]int{"": transfer.DefaultMaxSize, "max_size: 4096, ": 4096} {
		s, err := newServing(mustDecode(t, strings.Replace(text, "primaries:", size+"primaries:", 1)), newDeciding(t, nodeFile).GSS, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.secondaries()[0].Primaries[0].MaxSize; got != want {
			t.Errorf("with %q it is %d, want %d", size, got, want)
		}
	}
}

func TestKeyFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(peerSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustDecode(t, strings.Replace(nodeFile, keysHere, keyed("[{name: K.example.org, secret_file: "+path+"}]"), 1))
	keys, err := c.keys()
	if k := keys["k.example.org."]; err != nil || k == nil || k.Algorithm != "hmac-sha256" || string(k.Secret) != "a secret that is long enough" {
		t.Errorf("the keys are %+v, %v", keys, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := New(c, Options{}); err == nil || !strings.Contains(err.Error(), "key K.example.org") {
		t.Errorf("without the file New gives %v", err)
	}
}
