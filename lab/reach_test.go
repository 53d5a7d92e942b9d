package lab

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"anycastle/internal/netnstest"
	"anycastle/lab/reach"
	"anycastle/lab/runner"
)

// Exactly what the matrix allows answers in the lab, from the Internet, from each layer, from the other site.
func TestReachability(t *testing.T) {
	netnstest.Root(t)
	text, err := os.ReadFile("reach/two-site.txt")
	if err != nil {
		t.Fatal(err)
	}
	m, err := reach.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := ours(ctx, root, "lab", "up", "two-site", "--name", "reach").CombinedOutput(); err != nil {
		t.Fatalf("lab up: %v: %s", err, out)
	}
	lab, err := runner.Open("reach", root)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lab.Down(context.WithoutCancel(ctx), false); err != nil {
			t.Error(err)
		}
	}()
	for _, place := range m.Places {
		if _, ok := lab.Topology.Node(place); !ok {
			t.Fatalf("the topology has no node %s, and the matrix asks from it", place)
		}
	}
	wrong, err := reach.Run(ctx, lab, m)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("the lab does not settle")
	} else if err != nil {
		t.Fatal(err)
	}
	slices.Sort(wrong)
	for _, line := range wrong {
		t.Error(line)
	}
}
