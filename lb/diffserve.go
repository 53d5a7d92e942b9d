package lb

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"anycastle/internal/config"
)

const (
	// DefaultMoves is how many flows that would move are listed unless another number is asked for.
	DefaultMoves = 20
	// DiffTime bounds a comparison: it computes tables as a reload does, and asks all agents.
	DiffTime = time.Minute
)

// serveDiff takes a node file as it is, and answers with the Diff to its lb section. It is read here, by the code that
// reads it for a reload: so there is one form of a config and one way to read it, and what a reload would refuse is refused.
func (l *LB) serveDiff(w http.ResponseWriter, r *http.Request) {
	conn := http.NewResponseController(w)
	conn.SetReadDeadline(time.Now().Add(DiffTime)) // a recorder of a test has none
	conn.SetWriteDeadline(time.Now().Add(DiffTime))
	name, limit, err := parseDiffQuery(r.URL.Query())
	var cfg *Config
	if err == nil {
		cfg, err = readNode(name, http.MaxBytesReader(w, r.Body, config.MaxSize))
	}
	var d Diff
	if err == nil {
		d, err = l.Diff(r.Context(), cfg, limit)
	}
	l.reply(w, d, err)
}

// DiffQuery gives the query of a URL that asks for a Diff to a node file by that name.
func DiffQuery(name string, limit int) url.Values {
	return url.Values{"name": {name}, "flows": {strconv.Itoa(limit)}}
}

func parseDiffQuery(v url.Values) (name string, limit int, err error) {
	name, limit = "node file", DefaultMoves
	for key := range v {
		if key != "name" && key != "flows" {
			return "", 0, fmt.Errorf("%w: %.80q is unknown; there are name and flows", ErrQuery, key)
		}
	}
	if text := v.Get("name"); text != "" {
		name = text
	}
	if text := v.Get("flows"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 0 || limit > MaxFlows {
			return "", 0, fmt.Errorf("%w: flows %.80q; give 0 to %d", ErrQuery, text, MaxFlows)
		}
	}
	return name, limit, nil
}

// readNode reads the lb section of a node file.
func readNode(name string, from io.Reader) (*Config, error) {
	text, err := io.ReadAll(from)
	if err != nil {
		return nil, fmt.Errorf("%w: read the node file: %w", ErrQuery, err)
	}
	doc, err := config.Parse(name, text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	if !doc.Has("lb") {
		return nil, fmt.Errorf("%w: %s has no lb section", ErrQuery, name)
	}
	cfg := &Config{}
	cfg.Validate(doc.Decode("lb", cfg))
	if err := doc.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	return cfg, nil
}
