package mailroles_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anycastle/internal/mtlstest"
	"anycastle/mailroles"
)

// replicatedFile is the mail section of a node with replicas; words in capitals are replaced.
const replicatedFile = `mail:
  hostname: store1.example.org
  directory: DIR/mailboxes.yml
  tls: {cert: CERT, key: KEY, ca: CA}
  luns:
    - name: lun-east
      lmtp: 192.0.2.51:2424
      imap: 192.0.2.51:1993
      queue: 192.0.2.51:2425
      two_site: expose
      replicas:
        - {name: east-store1, site: east, addr: "198.51.100.11:7400"}
        - {name: west-store1, site: west, addr: "198.51.100.21:7400"}
        - {name: witness, site: third, addr: "198.51.100.31:7400", witness: true}
    - name: lun-west
      lmtp: 192.0.2.52:2424
      imap: 192.0.2.52:1993
      replicas:
        - {name: west-store1, site: west, addr: "198.51.100.21:7400"}
        - {name: east-store1, site: east, addr: "198.51.100.11:7400"}
        - {name: witness, site: third, addr: "198.51.100.31:7400", witness: true}
  store: {node: east-store1, path: DIR}
`

func replicatedText(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	node := mtlstest.NewCA(t).Node(t, "node")
	if err := os.WriteFile(filepath.Join(dir, "mailboxes.yml"), []byte("mailboxes: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("DIR", dir, "CERT", node.Cert, "KEY", node.Key, "CA", node.CA).Replace(replicatedFile)
}

func TestReplicaConfig(t *testing.T) {
	good := replicatedText(t)
	c, err := decode(t, good)
	if err != nil {
		t.Fatal(err)
	}
	east, west := c.LUNs[0], c.LUNs[1]
	if east.TwoSite != mailroles.Expose || west.TwoSite != mailroles.Wait || west.SwitchBackAfter != 30*time.Second ||
		west.CatchUpRate != 50_000_000 || west.ScrubEvery != 168*time.Hour || c.Store.ReplicaListen.String() != ":7400" {
		t.Errorf("got %+v and %+v", east, west)
	}
	if c, err = decode(t, strings.Replace(good, "expose", "wait\n      replica_times: {election: 50ms}", 1)); err != nil {
		t.Fatal(err)
	}
	if got := *c.LUNs[0].Times; got.Election != 50*time.Millisecond || got.Heartbeat != 600*time.Millisecond {
		t.Errorf("times are %+v", got)
	}
	const (
		first  = `{name: east-store1, site: east, addr: "198.51.100.11:7400"}`
		second = `{name: west-store1, site: west, addr: "198.51.100.21:7400"}`
	)
	for _, tc := range []struct{ name, old, new, want string }{
		{"policy", "two_site: expose", "two_site: hope", `mail.luns[0].two_site: "hope" must be wait or expose`},
		{"no name", "{name: east-store1, site: east", "{name: '', site: east", `mail.luns[0].replicas[0].name: "" is no name of a node`},
		{"two on a node", second, first, "mail.luns[0].replicas[1].name: east-store1 has two replicas of the LUN"},
		{"no site", "east-store1, site: east, ", "east-store1, ", "mail.luns[0].replicas[0].site: missing"},
		{"no address", `, addr: "198.51.100.11:7400"}`, "}", "mail.luns[0].replicas[0].addr: missing; write where the others reach it"},
		{"address of none", "198.51.100.11:7400", "0.0.0.0:7400", "mail.luns[0].replicas[0].addr: missing; write where"},
		{"address of two", "198.51.100.21:7400", "198.51.100.11:7400", "mail.luns[0].replicas[1].addr: 198.51.100.11:7400 is east-store1's; give each node its own"},
		{"two witnesses", `100.21:7400"}`, `100.21:7400", witness: true}`, "2 witnesses; one is enough"},
		{"one site", "site: west", "site: east", "mail.luns[0].replicas: the replicas that have mail are at one site"},
		{"too few", second + "\n        ", "", "mail.luns[0].replicas: 2 are too few"},
		{"another place", "site: west, addr", "site: north, addr", "mail.luns[1].replicas[0]: west-store1 is at north, 198.51.100.21:7400 in another LUN"},
		{"address of another LUN", "lmtp: 192.0.2.52", "lmtp: 192.0.2.51", "mail.luns[1].lmtp: 192.0.2.51 is lun-east's, too; an address moves with its LUN"},
		{"port twice", "queue: 192.0.2.51:2425", "queue: 192.0.2.51:2424", "mail.luns[0].queue: is the same as lmtp"},
		{"address that cannot be taken", "imap: 192.0.2.51", "imap: 0.0.0.0", "mail.luns[0].imap: 0.0.0.0 cannot be taken"},
		{"name of no directory", "name: lun-east", "name: ../east", `mail.luns[0].name: "../east" cannot be the name of a directory`},
		{"switch back", "two_site: expose", "switch_back_after: 48h", "switch_back_after: 48h0m0s must be from 0s to 24h"},
		{"rate", "two_site: expose", "catch_up_rate: 10", "catch_up_rate: 10 must be at least 65536"},
		{"scrub", "two_site: expose", "scrub_every: 1s", "scrub_every: 1s must be at least 1m"},
		{"times", "two_site: expose", "replica_times: {election: 1ms}", "replica_times.election: 1ms must be from 5ms to 10s"},
		{"lease", "two_site: expose", "replica_times: {lease: 2s}", "replica_times.lease: 2s is more than heartbeat, 600ms"},
		{"policy of one store", "      replicas:\n        - {name: west-store1", "      two_site: expose\n    - name: lun-x\n      lmtp: 192.0.2.53:2424\n      imap: 192.0.2.53:1993\n      replicas:\n        - {name: west-store1", "mail.luns[1].two_site: lun-west has one store and one site"},
		{"times of one store", "      replicas:\n        - {name: west-store1", "      replica_times: {}\n    - name: lun-x\n      lmtp: 192.0.2.53:2424\n      imap: 192.0.2.53:1993\n      replicas:\n        - {name: west-store1", "mail.luns[1].replica_times: lun-west has no replicas"},
		{"store of nothing", "store: {node: east-store1, path", "store: {path", "mail.store.lun: missing; write which LUN this is the store of, or with node:"},
		{"unknown node", "store: {node: east-store1", "store: {node: north-store1", `mail.store.node: no LUN has a mail replica "north-store1"; known are east-store1, west-store1`},
		{"witness as a store", "store: {node: east-store1", "store: {node: witness", `mail.store.node: no LUN has a mail replica "witness"`},
		{"node and LUN", "store: {node", "store: {lun: lun-east, node", "mail.store.lun: node says already which LUNs"},
		{"LUN alone of many", "store: {node: east-store1", "store: {lun: lun-east", "mail.store.lun: lun-east has replicas; write which of them"},
		{"store as a witness", "store: {node: east-store1", "witness: {node: east-store1", `mail.witness.node: no LUN has a witness "east-store1"; known are witness`},
		{"witness without a place", "store: {node: east-store1, path: ", "witness: {node: witness, path: /none", "mail.witness.path:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(good, tc.old, tc.new, 1)
			if text == good {
				t.Fatalf("%q is not in the file", tc.old)
			}
			if _, err := decode(t, text); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("witness alone needs no mailboxes", func(t *testing.T) {
		text := strings.Replace(good, "store: {node: east-store1", "witness: {node: witness", 1)
		if _, err := decode(t, strings.Replace(text, "mailboxes.yml", "none.yml", 1)); err != nil {
			t.Error(err)
		}
	})
}
