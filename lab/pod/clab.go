package pod

import (
	"fmt"
	"strings"
)

// topology is the containerlab file.
func (l *lab) topology() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: %s behind two ISPs, %s. Read README.md beside this file first.\n", l.Name, plural(len(l.Sites), "site"), plural(l.Pods, "pod"))
	fmt.Fprintf(&b, "# A valid containerlab topology; `anycastle lab up` builds it from network namespaces without a container engine.\nname: %s\n", l.Name)
	b.WriteString(`
topology:
  kinds:
    linux:
      image: anycastle:latest # made by ` + "`docker build -f lab/Dockerfile .`" + `; plain namespaces need no image
      cmd: anycastle node /etc/anycastle/node.yml
      network-mode: none
      env: {GOMAXPROCS: "1", GOGC: "50"}

  nodes:
`)
	for _, s := range l.strangers() {
		l.strangerEntry(&b, s.name)
	}
	for _, name := range isps {
		entry(&b, name, outside, []string{LabelLayer, outside, LabelRole, isp}, nil)
	}
	for _, h := range l.hosts {
		l.hostEntry(&b, h)
	}
	b.WriteString("\n  links:\n")
	l.links(&b)
	return b.String()
}

func plural(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return fmt.Sprintf("%s %ss", []string{"two", "three"}[n-2], what)
}

// entry writes a node: its group, labels as pairs, and binds beside its node file.
func entry(b *strings.Builder, name, group string, labels, binds []string) {
	fmt.Fprintf(b, "    %s:\n      kind: linux\n      group: %s\n      labels:\n", name, group)
	for i := 0; i < len(labels); i += 2 {
		fmt.Fprintf(b, "        %s: \"%s\"\n", labels[i], labels[i+1])
	}
	fmt.Fprintf(b, "      binds:\n        - nodes/%s.yml:/etc/anycastle/node.yml:ro\n", name)
	for _, bind := range binds {
		fmt.Fprintf(b, "        - %s\n", bind)
	}
}

// withResolver starts unbound, where there is one, beside what every node runs.
const withResolver = `sh -c 'if command -v unbound >/dev/null; then unbound -c /etc/anycastle/unbound.conf; fi; exec anycastle node /etc/anycastle/node.yml'`

func (l *lab) strangerEntry(b *strings.Builder, name string) {
	labels := []string{LabelLayer, outside, LabelRole, name}
	keys := fmt.Sprintf("tls/%s:/etc/anycastle/tls:ro", name)
	switch name {
	case client:
		entry(b, name, outside, labels, []string{"client.yml:/etc/anycastle/client.yml:ro", keys})
	case resolver:
		entry(b, name, outside, labels, []string{"unbound.conf:/etc/anycastle/unbound.conf:ro"})
		fmt.Fprintf(b, "      image: anycastle-resolver:latest # made by `docker build -f lab/Dockerfile.resolver .`\n      cmd: %s\n", withResolver)
	case witness:
		entry(b, name, outside, labels, []string{keys, "data/witness:/var/lib/anycastle"})
	}
}

func (l *lab) hostEntry(b *strings.Builder, h *host) {
	labels := []string{LabelLayer, h.layer, LabelRole, h.role}
	var binds []string
	if h.role != core {
		binds = append(binds, fmt.Sprintf("tls/%s:/etc/anycastle/tls:ro", h.name))
	}
	if h.pod > 0 {
		labels = append(labels, LabelPod, fmt.Sprint(h.pod))
	}
	if h.layer == front || h.layer == back {
		labels = append(labels, LabelNames, fmt.Sprintf("%s,*.mail.%s", l.hostname(h), l.domain(h.pod)))
		binds = append(binds, l.mailboxesName(h.pod)+":/etc/anycastle/mailboxes.yml:ro")
	}
	if h.layer == back {
		labels = append(labels, labelDisk, "128M")
		binds = append(binds, fmt.Sprintf("data/%s:/var/lib/anycastle", h.name))
	}
	entry(b, h.name, l.site(h), labels, binds)
}

// links writes all links. Each stands where the node that comes first has it.
func (l *lab) links(b *strings.Builder) {
	link := func(a, aName, z, zName string, mtu int) {
		fmt.Fprintf(b, "    - endpoints: [\"%s:%s\", \"%s:%s\"]\n      mtu: %d\n", a, aName, z, zName, mtu)
	}
	b.WriteString("    # the lines to and between the sites, with the Internet's MTU\n")
	for which, name := range isps {
		for i, s := range l.strangers() {
			link(s.name, fmt.Sprintf("eth%d", which+1), name, fmt.Sprintf("eth%d", i+1), outerMTU)
		}
	}
	cores := l.pick(0, 0, core)
	for _, h := range cores {
		w := l.coreWires(h)[0]
		link(h.name, w.name, w.to, w.far, w.mtu)
	}
	for _, h := range cores {
		for _, w := range l.coreWires(h) {
			if w.zone == "dc" && h.name < w.to {
				link(h.name, w.name, w.to, w.far, w.mtu)
			}
		}
	}
	b.WriteString("    # inside the sites; room for a 1500-byte packet plus the balancer's outer header\n")
	for _, h := range cores {
		for _, w := range l.coreWires(h)[1:] {
			if w.mtu == innerMTU && (w.zone != "peer" || h.nth == 1) {
				link(h.name, w.name, w.to, w.far, w.mtu)
			}
		}
	}
}
