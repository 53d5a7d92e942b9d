package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"anycastle/internal/proctest"
	"anycastle/lab/keys"
)

// world is two sites, each with a store, a standby and front ends, and a witness. LUN lun-east is at home in east, lun-west in
// west; each standby is there for both.
type world struct {
	*network
	dir     string
	roles   map[string]*process // by host and role: east-store1, east-front-smtp, …
	disks   map[string]*disk    // of stores, by host
	clients *host
	plan
}

// plan is what kind of world it is.
type plan struct {
	alone   bool              // lun-east is a store without replicas, and there is no other
	delay   time.Duration     // of the DC link, each way
	twoSite map[string]string // the policy of LUNs; default wait
	people  int               // mailboxes on each LUN; default 4
	disk    int64             // bytes of a store's; default 512 MiB
	more    string            // keys of each LUN, each on a line with its indentation
}

// lun is a LUN of the world.
type lun struct {
	name    string
	home    string
	service netip.Addr
}

func luns() []lun {
	return []lun{
		{"lun-east", "east", netip.MustParseAddr("203.0.113.11")},
		{"lun-west", "west", netip.MustParseAddr("203.0.113.21")},
	}
}

// stores are the hosts with mail, those of a site first.
func stores(first string) []string {
	second := other(first)
	return []string{first + "-store1", first + "-standby", second + "-store1", second + "-standby"}
}

const witness = "witness"

// replicas are the hosts that have a LUN's mail.
func (w *world) replicas(l lun) []string { return stores(l.home) }

// mailbox gives an address on a LUN.
func mailbox(l string, n int) string {
	return fmt.Sprintf("%s%d@example.org", strings.TrimPrefix(l, "lun-"), n)
}

// newWorld makes a world of which nothing runs yet.
func newWorld(t testing.TB, p plan) *world {
	t.Helper()
	p.people, p.disk = cmp.Or(p.people, 4), cmp.Or(p.disk, 512<<20)
	w := &world{network: newNetwork(t, p.delay), dir: t.TempDir(), roles: map[string]*process{}, disks: map[string]*disk{}, plan: p}
	w.clients = w.between("clients", "192.0.2.101", "192.0.2.4")
	for _, site := range []string{"east", "west"} {
		for _, role := range []string{"store1", "standby", "front"} {
			w.join(site+"-"+role, site)
		}
	}
	w.between(witness, "192.0.2.100", "192.0.2.0")
	var certs []keys.Host
	for name, h := range w.hosts {
		certs = append(certs, keys.Host{Name: name, Names: []string{name, "mx.example.org"}, Addrs: []netip.Addr{h.addr}})
	}
	proctest.Check(t, keys.Make(w.path("tls"), certs))
	w.writeMailboxes()
	for _, name := range w.storeHosts() {
		w.disks[name] = newDisk(t, w.path(name+".img"), w.path("srv-"+name), p.disk)
		proctest.Check(t, os.Chmod(w.disks[name].at, 0o700))
	}
	w.makeRoles()
	return w
}

func (w *world) storeHosts() []string {
	if w.alone {
		return []string{"east-store1"}
	}
	return stores("east")
}

func (w *world) luns() []lun {
	if w.alone {
		return luns()[:1]
	}
	return luns()
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// writeMailboxes writes the directory. Passwords are hashed cheaply: clients log in often.
func (w *world) writeMailboxes() {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	proctest.Check(w.t, err)
	text := "mailboxes:\n"
	for _, l := range w.luns() {
		for n := range w.people {
			text += fmt.Sprintf("  - {address: %s, password: %q, lun: %s}\n", mailbox(l.name, n), hash, l.name)
		}
	}
	proctest.Check(w.t, os.WriteFile(w.path("mailboxes.yml"), []byte(text), 0o600))
}

// makeRoles writes the node files, and makes the processes.
func (w *world) makeRoles() {
	for _, site := range []string{"east", "west"} {
		w.makeRole(site+"-front", "smtp", w.mail(site+"-front")+"  smtp: {listen: [\":25\"]}\n")
		w.makeRole(site+"-front", "imap", w.mail(site+"-front")+"  imap: {listen: [\":143\"], tls_listen: [\":993\"]}\n")
		w.makeRole(site+"-front", "submission", w.mail(site+"-front")+"  submission: {listen: [\":587\"], tls_listen: [\":465\"], messages_per_hour: 100000}\n")
		if !w.alone {
			w.makeRole(core(site), "rhi", w.router(site))
		}
	}
	for _, name := range w.storeHosts() {
		w.makeRole(name, "store", w.mail(name)+w.store(name))
	}
	if !w.alone {
		w.makeRole(witness, "witness", w.mail(witness)+fmt.Sprintf("  witness: {node: witness, path: %s, replica_listen: \":7400\"}\n", w.makeDir("srv-witness")))
	}
}

func (w *world) makeDir(name string) string {
	proctest.Check(w.t, os.MkdirAll(w.path(name), 0o700))
	return w.path(name)
}

// makeRole makes the process of a host's role.
func (w *world) makeRole(host, role, config string) {
	name := host + "-" + role
	proctest.Check(w.t, os.WriteFile(w.path(name+".yml"), []byte(config), 0o600))
	argv := []string{binary, "mail", role, "--config", w.path(name + ".yml"), "--run-dir", w.makeDir("run-" + name)}
	if role == "rhi" {
		argv = append(argv[:1], argv[2:]...)
	}
	w.roles[name] = newProcess(w.t, w.hosts[host], w.path(name+".log"), argv...)
}

// mail begins the section that all mail roles have.
func (w *world) mail(host string) string {
	at := w.path("tls/" + host)
	text := fmt.Sprintf("mail:\n  hostname: %s\n  directory: %s\n  tls: {cert: %s/node.pem, key: %s/node.key, ca: %s/ca.pem}\n  luns:\n",
		host, w.path("mailboxes.yml"), at, at, at)
	for _, l := range w.luns() {
		service := l.service
		if w.alone {
			service = w.hosts["east-store1"].addr
		}
		text += fmt.Sprintf("    - name: %s\n      lmtp: %s:2424\n      imap: %s:1993\n      queue: %s:2425\n", l.name, service, service, service)
		if w.alone {
			continue
		}
		text += fmt.Sprintf("      two_site: %s\n      switch_back_after: 5s\n%s      replicas:\n", cmp.Or(w.twoSite[l.name], "wait"), w.more)
		for _, name := range w.replicas(l) {
			text += fmt.Sprintf("        - {name: %s, site: %s, addr: \"%s:7400\"}\n", name, w.hosts[name].site, w.hosts[name].addr)
		}
		text += fmt.Sprintf("        - {name: witness, site: third, addr: \"%s:7400\", witness: true}\n", w.hosts[witness].addr)
	}
	return text
}

// quickQueue is a queue whose users do not wait.
const quickQueue = "{resolvers: [192.0.2.53:53], retry_min: 1s, retry_max: 4s, delay_notice: 0s}"

// store gives the rest of a store's node file.
func (w *world) store(name string) string {
	if w.alone {
		return fmt.Sprintf("  store: {lun: lun-east, path: %s, queue: %s}\n", w.disks[name].at, quickQueue)
	}
	h := w.hosts[name]
	return fmt.Sprintf("  store: {node: %s, path: %s, replica_listen: \":7400\", queue: %s}\n", name, w.disks[name].at, quickQueue) +
		fmt.Sprintf("rhi:\n  asn: %d\n  router_id: %s\n  hold: 3s\n  state_dir: %s\n  neighbors:\n    - {name: core, address: %s, asn: %d, bfd: {interval: 100ms, multiplier: 5}}\n",
			asn(h.site)+10, h.addr, w.makeDir("rhi-"+name), h.gateway, asn(h.site))
}

func asn(site string) int { return map[string]int{"east": 65001, "west": 65002}[site] }

// router gives the node file of a site's core, which passes on the addresses of the LUNs.
func (w *world) router(site string) string {
	name := core(site)
	text := fmt.Sprintf("rhi:\n  asn: %d\n  router_id: %s\n  hold: 3s\n  state_dir: %s\n  neighbors:\n", asn(site), w.hosts[name].addr, w.makeDir("rhi-"+name))
	if site == "east" {
		text += "    - {name: west-core, address: 192.0.2.9, asn: 65002, passive: true, bfd: {interval: 100ms, multiplier: 5}}\n"
	} else {
		text += "    - {name: east-core, address: 192.0.2.8, asn: 65001, bfd: {interval: 100ms, multiplier: 5}}\n"
	}
	for _, name := range stores(site)[:2] {
		text += fmt.Sprintf("    - {name: %s, address: %s, asn: %d, passive: true, bfd: {interval: 100ms, multiplier: 5}}\n", name, w.hosts[name].addr, asn(site)+10)
	}
	text += "  router:\n    pass: ["
	for i, l := range w.luns() {
		text += map[bool]string{true: ", "}[i > 0] + l.service.String() + "/32"
	}
	return text + "]\n"
}

// start runs all, and waits until the front ends take clients.
func (w *world) start() {
	w.t.Helper()
	for _, p := range w.roles {
		proctest.Check(w.t, p.start())
	}
	all := w.load(nil)
	for _, l := range slices.Concat(all.smtp, all.imap, all.submission) {
		proctest.Eventually(w.t, l+" listens", func() bool {
			conn, err := w.clients.dial(net.Dialer{Timeout: time.Second}, l)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
}

// load gives clients of the world's front ends.
func (w *world) load(h *History) *load {
	l := &load{h: h, from: w.clients, pause: 150 * time.Millisecond, refused: map[string]int{}}
	for _, site := range []string{"east", "west"} {
		l.smtp = append(l.smtp, w.hosts[site+"-front"].addr.String()+":25")
		l.submission = append(l.submission, w.hosts[site+"-front"].addr.String()+":587")
		l.imap = append(l.imap, w.hosts[site+"-front"].addr.String()+":993")
	}
	for _, lun := range w.luns() {
		for n := range w.people {
			l.mailboxes = append(l.mailboxes, mailbox(lun.name, n))
		}
	}
	return l
}

// ask gives what a process says on its socket.
func (w *world) ask(ctx context.Context, role, path string, into any) error {
	socket := filepath.Join(w.path("run-"+role), role[strings.LastIndexByte(role, '-')+1:]+".sock")
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://anycastle"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, text)
	}
	return json.Unmarshal(text, into)
}
