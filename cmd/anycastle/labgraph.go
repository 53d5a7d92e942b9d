package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"anycastle/internal/wholefile"
	"anycastle/lab/graph"
	"anycastle/lab/runner"
	"anycastle/lab/topo"
	"anycastle/lab/topology"
	"anycastle/lab/watch"

	"github.com/spf13/cobra"
)

const labGraphLong = `Draws a topology, or a running lab, as an SVG file: what is outside on top, the sites side by side,
in each its routers, network, front end and back end, and boxes around pods. A router's lines to
the nodes of its site run along rails, each with a colour of its own.

The argument is the name of a lab that runs, of a topology in this binary, or the path of a
topology file, looked for in this order. Of a running lab, nodes that do not work are red and
those that are not well otherwise yellow, with a word why; lines that are cut are red and broken,
those without a carrier dotted. It then needs root.

The picture goes to standard output unless -o names a file. The same topology gives the same bytes.`

func newLabGraph(e env, f *labFlags) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "graph TOPOLOGY|NAME",
		Short:   "Draw a topology or a running lab as SVG",
		Long:    labGraphLong,
		Example: "  anycastle lab graph two-site -o two-site.svg",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, is, err := graphOf(cmd, f, args[0])
			if err != nil {
				return err
			}
			svg := graph.Draw(t, is)
			if output == "" || output == "-" {
				_, err := e.stdout.Write(svg)
				return err
			}
			return wholefile.Put(output, svg)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file; standard output unless given")
	return cmd
}

// graphOf finds what to draw: a lab that runs, else a topology.
func graphOf(cmd *cobra.Command, f *labFlags, name string) (*topology.Topology, graph.Condition, error) {
	names, err := runner.List(f.root)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, graph.Condition{}, err
	}
	if slices.Contains(names, name) && os.Geteuid() == 0 {
		lab, err := runner.Open(name, f.root)
		if err != nil {
			return nil, graph.Condition{}, err
		}
		state, err := watch.NewCollector(lab).Collect(cmd.Context())
		if err != nil {
			return nil, graph.Condition{}, err
		}
		return lab.Topology, condition(state), nil
	}
	t, err := readTopology(name)
	return t, graph.Condition{}, err
}

func readTopology(name string) (*topology.Topology, error) {
	files, file, err := topo.Find(name)
	if err != nil {
		return nil, usageError{err}
	}
	t, err := topology.LoadFrom(files, file)
	if err != nil {
		return nil, usageError{err}
	}
	return t, nil
}

// condition says what the picture of a running lab shows of it.
func condition(s *watch.State) graph.Condition {
	is := graph.Condition{Nodes: map[string]string{}, Works: map[string]bool{}, Links: map[string]string{}}
	works := 0
	for _, n := range s.Nodes {
		if n.Health != watch.Bad {
			works++
			is.Works[n.Name] = true
		}
		if n.State != "up" {
			is.Nodes[n.Name] = n.State
		}
	}
	for _, l := range s.Links {
		is.Links[l.A+" "+l.B] = l.State
	}
	is.Note = fmt.Sprintf("%d of %d nodes work, lines that are not up: %d", works, len(s.Nodes), len(s.Links))
	return is
}
