package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"anycastle/lab/pod"
	"anycastle/lab/topo"

	"github.com/spf13/cobra"
)

const labNewLong = `Makes the folder of a lab of its own: addresses, keys, certificates, a node file for each node, and
the topology. Each site has two core routers, a site selector and a monitor; each pod, at each site,
two balancers, front ends for SMTP, submission and IMAP, stores and a standby. Outside are two ISPs,
a client, a resolver and the witness.

What is wanted comes from flags, or from a short FILE, of which all but the name may be left out:

  lab:
    name: my-lab          # small letters, digits and dashes
    domain: example.org   # of pod 1's mailboxes; pod 2 has pod2.example.org
    sites: [east, west]   # 1 to 3
    pods: 1               # 1 to 3
    front_ends: 2         # of each kind, of a pod at a site: 1 to 3
    stores: 2             # active ones of a pod at a site, each with a LUN: 1 to 3
    users: 8              # mailboxes of a pod
    seed: ""              # keys follow from it; without one they are random

Flags count more than the FILE. Every node file passes ` + "`anycastle check`" + ` on its node.`

// newLabNew makes the command that renders a lab.
func newLabNew(e env) *cobra.Command {
	var o struct {
		pods, sites, frontEnds, stores, users int
		name, domain, dir                     string
	}
	cmd := &cobra.Command{
		Use:   "new [FILE]",
		Short: "Make the folder of a lab of your own from a short file or flags",
		Long:  labNewLong,
		Example: "  anycastle lab new --pods 2 --sites 3 --name big\n" +
			"  anycastle lab new lab.yml --dir /srv/labs/mine\n" +
			"  sudo anycastle lab up big/big.clab.yml",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan := pod.DefaultPlan()
			plan.Name = "my-lab"
			if len(args) == 1 {
				text, err := os.ReadFile(args[0])
				if err != nil {
					return usageError{fmt.Errorf("read the plan: %w", err)}
				}
				if plan, err = pod.Parse(args[0], text); err != nil {
					return usageError{err}
				}
			}
			given := cmd.Flags().Changed
			for name, set := range map[string]func(){
				"name": func() { plan.Name = o.name }, "domain": func() { plan.Domain = o.domain },
				"pods": func() { plan.Pods = o.pods }, "sites": func() { plan.Sites = pod.SiteNames(o.sites) },
				"front-ends": func() { plan.FrontEnds = o.frontEnds }, "stores": func() { plan.Stores = o.stores },
				"users": func() { plan.Users = o.users },
			} {
				if given(name) {
					set()
				}
			}
			if err := plan.Check(); err != nil {
				return usageError{err}
			}
			if o.dir == "" {
				o.dir = plan.Name
			}
			return renderLab(e, plan, o.dir)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.name, "name", "my-lab", "name of the lab")
	fl.StringVar(&o.domain, "domain", "example.org", "domain of pod 1's mailboxes")
	fl.IntVar(&o.pods, "pods", 1, fmt.Sprintf("pods, 1 to %d", pod.MostPods))
	fl.IntVar(&o.sites, "sites", 2, fmt.Sprintf("sites, 1 to %d: east, west, north", pod.MostSites))
	fl.IntVar(&o.frontEnds, "front-ends", 2, "front ends of each kind, of a pod at a site")
	fl.IntVar(&o.stores, "stores", 2, "active stores of a pod at a site")
	fl.IntVar(&o.users, "users", 8, "mailboxes of a pod")
	fl.StringVarP(&o.dir, "dir", "d", "", "folder to make; the lab's name unless given")
	return cmd
}

// renderLab writes a lab into a folder that is not there yet, or empty.
func renderLab(e env, plan pod.Plan, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look into the folder: %w", err)
	}
	if len(entries) > 0 {
		return usageError{fmt.Errorf("%s is not empty; choose another folder with --dir", dir)}
	}
	files, err := pod.Render(plan)
	if err != nil {
		return err
	}
	files["README.md"], files["pod.yml"] = pod.Readme(plan), plan.File()
	if err := pod.Write(dir, files); err != nil {
		return err
	}
	file := filepath.Join(dir, plan.Name+".clab.yml")
	if err := topo.PrepareFile(file); err != nil {
		return err
	}
	nodes := 0
	for name := range files {
		if strings.HasPrefix(name, "nodes/") {
			nodes++
		}
	}
	fmt.Fprintf(e.stdout, "%s: %d nodes; see %s, and try: anycastle lab up %s\n", plan.Name, nodes, filepath.Join(dir, "README.md"), file)
	return nil
}
