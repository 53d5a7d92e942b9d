package gss

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/gss/transfer"
	"anycastle/internal/config"
	"anycastle/internal/netnstest"
	"anycastle/internal/porttest"
)

// BIND, Knot and NSD, from Debian's packages bind9, knot and nsd, are secondaries of a site selector's zone and primaries of
// others that it takes. They run on loopback, on ports that are free.

// xfrPeer is a server of others.
type xfrPeer struct {
	name      string
	algorithm string
	program   string
	args      []string
	config    func(x xfrPlace) string
}

// xfrPlace is where things are in a test.
type xfrPlace struct {
	dir       string
	name      string // of the server
	algorithm string
	port, gss uint16
}

var xfrPeers = []xfrPeer{
	{"bind", "hmac-sha512", "/usr/sbin/named", []string{"-g", "-n", "1", "-c", "config"}, func(x xfrPlace) string {
		return fmt.Sprintf(`options {
	directory "%[1]s"; pid-file none; session-keyfile none; managed-keys-directory "%[1]s";
	listen-on port %[2]d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; notify explicit; notify-delay 0; dnssec-validation no; empty-zones-enable no; serial-query-rate 1000;
};
controls { };
key "%[4]s.key.example" { algorithm %[5]s; secret "%[6]s"; };
zone "mail.example.org" {
	type secondary; primaries { 127.0.0.1 port %[3]d key %[4]s.key.example; }; file "mail.zone"; allow-transfer { key %[4]s.key.example; };
};
zone "%[4]s.example.net" {
	type primary; file "net.zone"; ixfr-from-differences yes; allow-transfer { key %[4]s.key.example; };
	also-notify { 127.0.0.1 port %[3]d key %[4]s.key.example; };
};
`, x.dir, x.port, x.gss, x.name, x.algorithm, peerSecret)
	}},
	{"knot", "hmac-sha256", "/usr/sbin/knotd", []string{"-c", "config"}, func(x xfrPlace) string {
		return fmt.Sprintf(`server:
    rundir: "%[1]s"
    listen: 127.0.0.1@%[2]d
    udp-workers: 1
    tcp-workers: 1
    background-workers: 2
database:
    storage: "%[1]s"
    journal-db-max-size: 1M
    kasp-db-max-size: 5M
    timer-db-max-size: 5M
key:
  - id: %[4]s.key.example
    algorithm: %[5]s
    secret: %[6]s
remote:
  - id: gss
    address: 127.0.0.1@%[3]d
    key: %[4]s.key.example
acl:
  - id: gss
    key: %[4]s.key.example
    action: [transfer, notify]
template:
  - id: default
    acl: gss
    storage: "%[1]s"
    journal-content: changes
    zonefile-sync: -1
zone:
  - domain: mail.example.org
    master: gss
  - domain: %[4]s.example.net
    file: net.zone
    notify: gss
    zonefile-load: difference
`, x.dir, x.port, x.gss, x.name, x.algorithm, peerSecret)
	}},
	{"nsd", "hmac-sha384", "/usr/sbin/nsd", []string{"-d", "-c", "config"}, func(x xfrPlace) string {
		return fmt.Sprintf(`server:
    username: ""
    chroot: ""
    zonesdir: "%[1]s"
    database: ""
    pidfile: "%[1]s/nsd.pid"
    xfrdfile: "%[1]s/xfrd.state"
    xfrdir: "%[1]s"
    zonelistfile: "%[1]s/zone.list"
    server-count: 1
    xfrd-reload-timeout: 0
    ip-address: 127.0.0.1@%[2]d
    rrl-ratelimit: 0
remote-control:
    control-enable: no
key:
    name: "%[4]s.key.example"
    algorithm: %[5]s
    secret: "%[6]s"
zone:
    name: mail.example.org
    zonefile: mail.zone
    request-xfr: 127.0.0.1@%[3]d %[4]s.key.example
    allow-notify: 127.0.0.1 %[4]s.key.example
    provide-xfr: 127.0.0.1 %[4]s.key.example
zone:
    name: %[4]s.example.net
    zonefile: net.zone
    store-ixfr: yes
    create-ixfr: yes
    notify: 127.0.0.1@%[3]d %[4]s.key.example
    provide-xfr: 127.0.0.1 %[4]s.key.example
`, x.dir, x.port, x.gss, x.name, x.algorithm, peerSecret)
	}},
}

// xfrRunning is a server of others that runs.
type xfrRunning struct {
	xfrPeer
	dir  string
	port uint16
	cmd  *exec.Cmd
}

func (p *xfrRunning) addr() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

func (p *xfrRunning) key() string { return p.name + ".key.example" }

func (p *xfrRunning) zone() string { return p.name + ".example.net." }

// write writes the zone that the server is the primary of.
func (p *xfrRunning) write(t *testing.T, serial int) {
	t.Helper()
	text := manyHosts(p.zone(), serial)
	path := filepath.Join(p.dir, "net.zone")
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Duration(serial) * time.Minute) // servers look whether the file is newer, by seconds
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
}

func (p *xfrRunning) start(t *testing.T, gss uint16) {
	t.Helper()
	text := p.config(xfrPlace{p.dir, p.name, p.algorithm, p.port, gss})
	err := os.WriteFile(filepath.Join(p.dir, "config"), []byte(text), 0o644)
	program := filepath.Join(p.dir, filepath.Base(p.program)) // a copy: AppArmor's profile would keep it out of our folder
	if err == nil {
		var code []byte
		if code, err = os.ReadFile(p.program); err == nil {
			err = os.WriteFile(program, code, 0o755)
		}
	}
	if err != nil {
		t.Fatalf("%v; install what .ci/packages lists (bind9, knot, nsd)", err)
	}
	var log lockedText
	p.cmd = exec.Command(program, p.args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, &log, &log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Signal(os.Interrupt)
		late := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
		p.cmd.Wait()
		late.Stop()
		if t.Failed() {
			t.Logf("%s says:\n%s", p.name, log.String())
		}
	})
}

func (p *xfrRunning) wantSame(t *testing.T, zone string, servers ...string) {
	t.Helper()
	var want []string
	for i, addr := range servers {
		got, err := axfr(addr, zone, p.key(), p.algorithm, peerSecret)
		if err != nil || len(got) < 2000 {
			t.Fatalf("transfer %s from %s: %v after %d records", zone, addr, err, len(got))
		}
		if i == 0 {
			want = got
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s is not the same at %s (-) and %s (+):\n%s", zone, servers[0], addr, diff)
		}
	}
}

// xfrTest is a site selector among the servers of others.
type xfrTest struct {
	*running
	t     *testing.T
	cfg   Config
	file  string // of the zone mail.example.org
	peers []*xfrRunning
}

func startTransfers(t *testing.T) *xfrTest {
	t.Helper()
	netnstest.Root(t) // not that it needs it: who is root has the servers
	x := &xfrTest{t: t, file: filepath.Join(t.TempDir(), "mail.zone")}
	x.write(1)
	east, west := newSite(t, "127.0.0.1"), newSite(t, "127.0.0.2")
	for _, p := range xfrPeers {
		x.peers = append(x.peers, &xfrRunning{xfrPeer: p, dir: t.TempDir(), port: porttest.Free(t, "127.0.0.1").Port()})
	}
	x.running = startRunning(t, portOf(east), portOf(west), func(c *Config) {
		c.checked, c.Limits.ResponsesPerSecond = nil, 0
		mail := Zone{Name: "mail.example.org", File: x.file}
		c.Zones = nil
		for _, p := range x.peers {
			at, key := netip.MustParseAddrPort(p.addr()), p.key()
			c.TSIGKeys = append(c.TSIGKeys, TSIGKey{Name: key, Algorithm: p.algorithm, Secret: peerSecret})
			mail.Notify = append(mail.Notify, Peer{at, key})
			mail.Transfer.To = append(mail.Transfer.To, Secondary{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Key: key})
			c.Zones = append(c.Zones, Zone{
				Name: p.name + ".example.net", Primaries: []Peer{{at, key}}, Transfer: Transfer{To: []Secondary{{Key: key}}},
			})
		}
		c.Zones = append(c.Zones, mail)
		x.cfg = *c
	})
	return x
}

func (x *xfrTest) write(serial int) {
	x.t.Helper()
	if err := os.WriteFile(x.file, []byte(manyHosts("mail.example.org.", serial)), 0o600); err != nil {
		x.t.Fatal(err)
	}
}

// reload has the site selector read its zone file again.
func (x *xfrTest) reload() {
	x.t.Helper()
	cfg := x.cfg
	if err := config.Check("gss", cfg.Validate); err != nil {
		x.t.Fatal(err)
	}
	cfg.Listen = x.engine.serving().config.Listen
	if err := x.Reload(cfg); err != nil {
		x.t.Fatal(err)
	}
}

// moved is how many transfers of a kind there were.
func (x *xfrTest) moved(zone, direction, kind, result string) float64 {
	return testutil.ToFloat64(x.metrics.transfers.WithLabelValues(bare(zone), direction, kind, result))
}

// TestTransfersWithPeers has each server take our zone and us take one of each: whole, and then by increments after notifications,
// all signed. Then all have the same records.
func TestTransfersWithPeers(t *testing.T) {
	t.Parallel()
	x := startTransfers(t)
	ours := netip.MustParseAddrPort(x.addr)
	for _, p := range x.peers {
		p.write(t, 1)
		p.start(t, ours.Port())
	}
	const mail = "mail.example.org."
	for _, p := range x.peers {
		waitFor(t, p.name+" to take our zone", func() bool { return serialAt(p.addr(), mail) == 1 })
		waitFor(t, "the zone of "+p.name, func() bool { return serialAt(x.addr, p.zone()) == 1 })
		p.wantSame(t, mail, x.addr, p.addr())
		p.wantSame(t, p.zone(), p.addr(), x.addr)
	}
	for serial := uint32(2); serial < 4; serial++ {
		x.write(int(serial))
		x.reload()
		for _, p := range x.peers {
			waitFor(t, p.name+" to take our new zone", func() bool { return serialAt(p.addr(), mail) == serial })
			p.write(t, int(serial))
			p.cmd.Process.Signal(syscall.SIGHUP) // BIND gives up at it what it was about to take
		}
		for _, p := range x.peers {
			waitFor(t, "the new zone of "+p.name, func() bool { return serialAt(x.addr, p.zone()) == serial })
			p.wantSame(t, mail, x.addr, p.addr())
			p.wantSame(t, p.zone(), p.addr(), x.addr)
		}
	}
	waitFor(t, "two increments of our zone to each of three", func() bool { return x.moved(mail, "out", "ixfr", "ok") == 6 })
	for _, p := range x.peers {
		waitFor(t, "the zone of "+p.name+" to have come whole once, and by increments twice", func() bool {
			return x.moved(p.zone(), "in", "axfr", "ok") == 1 && x.moved(p.zone(), "in", "ixfr", "ok") == 2
		})
	}
	for _, p := range x.peers {
		for name, secret := range map[string]string{p.key(): wrongSecret, "no.key.example": peerSecret, "": ""} {
			if got, err := axfr(x.addr, mail, name, p.algorithm, secret); err == nil {
				t.Errorf("with the key %q and the secret %q, the zone is given, with %d records", name, secret, len(got))
			}
		}
	}
	for _, p := range x.peers {
		p.refuses(t, wrongSecret, p.key(), transfer.ErrBadSig)
		p.refuses(t, peerSecret, "no.key.example", transfer.ErrBadKey)
		p.refuses(t, "", "", transfer.ErrRefused)
	}
}

// refuses wants the server not to give us its zone, and us to know why.
func (p *xfrRunning) refuses(t *testing.T, secret, key string, want error) {
	t.Helper()
	from := transfer.Peer{Addr: netip.MustParseAddrPort(p.addr())}
	if key != "" {
		text, err := base64.StdEncoding.DecodeString(secret)
		if err != nil {
			t.Fatal(err)
		}
		from.Key = &transfer.Key{Name: dns.Fqdn(key), Algorithm: p.algorithm, Secret: text}
	}
	if u, err := (&transfer.Client{}).Update(t.Context(), from, p.zone(), nil); u.Zone != nil || !errors.Is(err, want) {
		t.Errorf("with the key %q, %s gives %+v, %v; want %v", key, p.name, u, err, want)
	}
}
