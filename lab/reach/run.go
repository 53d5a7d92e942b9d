package reach

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"anycastle/lab/runner"
)

const (
	patience   = 8 * time.Second // for what is to answer, on a busy machine
	impatience = time.Second     // for what is to be silent
)

// Run asks from every place of the matrix, and lists what is not as the matrix says, each in a line of its own.
func Run(ctx context.Context, lab *runner.Lab, m *Matrix) ([]string, error) {
	found := make([][]string, len(m.Places))
	g, ctx := errgroup.WithContext(ctx)
	for i, place := range m.Places {
		g.Go(func() (err error) {
			found[i], err = m.from(ctx, lab, i)
			if err != nil {
				return fmt.Errorf("ask from %s: %w", place, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(found...), nil
}

// from asks from one place. What is to answer is asked again while it does not, for a lab whose routes still settle; what is to
// be silent is asked once.
func (m *Matrix) from(ctx context.Context, lab *runner.Lab, place int) ([]string, error) {
	var wrong []string
	for _, half := range []struct {
		want    Cell
		timeout time.Duration
		tries   int
	}{{Open, patience, 5}, {Silent, impatience, 1}} {
		var services []Service
		for _, s := range m.Services {
			if s.Answers[place] == half.want {
				services = append(services, s)
			}
		}
		for try := 1; len(services) > 0; try++ {
			results, err := probeIn(ctx, lab, m.Places[place], services, half.timeout)
			if err != nil {
				return nil, err
			}
			var left []Service
			for i, r := range results {
				if half.want.agrees(r) {
					continue
				}
				left = append(left, services[i])
				if try == half.tries {
					wrong = append(wrong, fmt.Sprintf("%s to %s (%v): %s, want %c", m.Places[place], services[i].Name, r.Target, r.Says, half.want))
				}
			}
			if try == half.tries {
				break
			}
			services = left
		}
	}
	return wrong, nil
}

// probeIn runs Probe in a node, by the binary that is there.
func probeIn(ctx context.Context, lab *runner.Lab, node string, services []Service, timeout time.Duration) ([]Result, error) {
	argv := []string{"anycastle", "lab", "reach", "--timeout", timeout.String()}
	for _, s := range services {
		argv = append(argv, s.Target.String())
	}
	c := lab.Command(ctx, node, argv...)
	var said strings.Builder
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, said.String())
	}
	var results []Result
	if err := json.Unmarshal(out, &results); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(results) != len(services) {
		return nil, fmt.Errorf("%d answers to %d questions", len(results), len(services))
	}
	return results, nil
}
