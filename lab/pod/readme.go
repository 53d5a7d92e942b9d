package pod

import (
	"fmt"
	"strings"
)

// Readme describes a rendered lab in short: what is where, and what to try first.
func Readme(p Plan) string {
	l := newLab(p)
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s behind two ISPs, %s; made by `anycastle lab new` from pod.yml.\n\n", p.Name, upper(plural(len(p.Sites), "site")), plural(p.Pods, "pod"))
	b.WriteString("| pod | service | shared VIP |")
	for _, s := range p.Sites {
		fmt.Fprintf(&b, " VIP of %s |", s)
	}
	b.WriteString(" name |\n|---|---|---|" + strings.Repeat("---|", len(p.Sites)+1) + "\n")
	for pod := 1; pod <= p.Pods; pod++ {
		for _, k := range kinds {
			fmt.Fprintf(&b, "| %d | %s, %s | %v |", pod, k.vip, list(k.numbers(), func(n int) string { return fmt.Sprint(n) }), k.sharedVIP(pod))
			for site := range p.Sites {
				fmt.Fprintf(&b, " %v |", k.ownVIP(pod, site+1))
			}
			fmt.Fprintf(&b, " %s |\n", l.serviceName(k, pod))
		}
	}
	b.WriteString("\nLUNs and their first mailboxes (the password of NAME is NAME-lab):\n\n")
	for pod := 1; pod <= p.Pods; pod++ {
		boxes := l.mailboxes(pod)
		for i, n := range l.luns(pod) {
			first := ""
			if i < len(boxes) {
				first = ": " + boxes[i].address
			}
			fmt.Fprintf(&b, "- %s, at home in %s, %v%s\n", n.name, p.Sites[n.home-1], n.addr, first)
		}
	}
	file := p.Name + ".clab.yml"
	fmt.Fprintf(&b, "\nWithout a container engine, as root, in this folder:\n\n    anycastle lab up %s\n    anycastle lab status %s\n    anycastle lab down %s\n", file, p.Name, p.Name)
	fmt.Fprintf(&b, "\nWith containerlab, once the images of lab/Dockerfile and lab/Dockerfile.resolver are there:\n\n    containerlab deploy -t %s\n", file)
	b.WriteString("\nThe certificates in tls/ are good for 30 days; `anycastle lab keys " + file + "` makes new ones.\n")
	return b.String()
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
