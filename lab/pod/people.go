package pod

import (
	"fmt"
	"strings"
)

// people are the local parts of mailboxes; who comes after them is called userN.
var people = []string{
	"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim", "leo", "mallory", "nina", "oscar", "peggy",
	"quinn", "rupert", "sybil", "trent", "ursula", "victor", "walter", "xenia", "yvonne", "zoe",
}

// mailbox is one of a pod's.
type mailbox struct{ address, password, lun string }

// mailboxes lists those of a pod, which the LUNs take in turns.
func (l *lab) mailboxes(pod int) []mailbox {
	luns := l.luns(pod)
	var list []mailbox
	for i := range l.Users {
		name := fmt.Sprintf("user%d", i+1)
		if i < len(people) {
			name = people[i]
		}
		list = append(list, mailbox{name + "@" + l.domain(pod), name + "-lab", luns[i%len(luns)].name})
	}
	return list
}

// mailboxesFile is the directory of a pod's nodes.
func (l *lab) mailboxesFile(pod int) (string, error) {
	var b strings.Builder
	b.WriteString("# The password of NAME is NAME-lab. Hashes with so little work are for labs alone.\nmailboxes:\n")
	for _, m := range l.mailboxes(pod) {
		scram, err := l.keys.scram(m.address, m.password)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "  - {address: %s, password: \"%s\", scram: \"%s\", lun: %s}\n", m.address, l.keys.hash(m.address, m.password), scram, m.lun)
	}
	return b.String(), nil
}

// clientFile says where the lab's client finds everything.
func (l *lab) clientFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What the client outside knows: a resolver, the site selectors, and each pod's services.\nclient:\n  resolvers: [\"%v:53\"]\n  selectors: [%s]\n  pods:\n",
		resolverAddr, list(l.pick(0, 0, gss), func(h *host) string { return fmt.Sprintf("\"%v:53\"", h.addr()) }))
	for pod := 1; pod <= l.Pods; pod++ {
		fmt.Fprintf(&b, "    - pod: \"%d\"\n", pod)
		for _, k := range kinds {
			for _, p := range k.ports {
				if p.name != "submissions" {
					fmt.Fprintf(&b, "      %s: \"%v:%d\"\n", p.name, k.sharedVIP(pod), p.number)
				}
			}
		}
		fmt.Fprintf(&b, "      sites: [%s]\n", list(l.around(1), func(site int) string { return fmt.Sprintf("\"%v:25\"", kinds[0].ownVIP(pod, site)) }))
		fmt.Fprintf(&b, "      names: {%s}\n", list(kinds, func(k kind) string { return k.vip + ": " + l.serviceName(k, pod) }))
		b.WriteString("      mailboxes: # one of each LUN\n")
		for _, m := range l.mailboxes(pod)[:min(l.Users, len(l.luns(pod)))] {
			fmt.Fprintf(&b, "        - {address: %s, password: %s, lun: %s}\n", m.address, m.password, m.lun)
		}
	}
	return b.String()
}

// serviceName is the name that the site selectors answer with a site's own VIP.
func (l *lab) serviceName(k kind, pod int) string { return k.vip + ".mail." + l.domain(pod) }

// list joins what f makes of each element by commas, as in a YAML list.
func list[T any](all []T, f func(T) string) string {
	texts := make([]string, len(all))
	for i, x := range all {
		texts[i] = f(x)
	}
	return strings.Join(texts, ", ")
}
