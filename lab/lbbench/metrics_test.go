package lbbench

import (
	"bufio"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"anycastle/internal/daemon"
)

// metrics gives what a balancer counts, by name and labels as they are written; nothing while it does not answer.
func (c *control) metrics(lb string) map[string]float64 {
	c.t.Helper()
	body, err := daemon.Stream(c.t.Context(), filepath.Join(c.dir, lb), "lb", http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil
	}
	defer body.Close()
	series := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(body, 1<<20))
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "} ")
		if ok {
			name += "}"
		} else {
			name, value, _ = strings.Cut(lines.Text(), " ")
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(name, "#") {
			series[name] = v
		}
	}
	check(c.t, lines.Err())
	return series
}
