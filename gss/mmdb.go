package gss

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"

	"anycastle/internal/config"
)

// maxNetworks bounds what a list may take out of a database; the Internet has some million networks.
const maxNetworks = 4_000_000

// MMDB is a list of clients out of a MaxMind database: the networks that have one of some values at a place of their record.
type MMDB struct {
	File   string   `yaml:"file"`
	Path   []string `yaml:"path"`   // such as [country, iso_code], [continent, code] or [autonomous_system_number]
	Values []string `yaml:"values"` // such as [DE, AT, CH]
}

func (m *MMDB) validate(at config.Cursor) {
	for key, missing := range map[string]bool{"file": m.File == "", "path": len(m.Path) == 0, "values": len(m.Values) == 0} {
		if missing {
			at.Key(key).Errorf("missing; a list out of a database needs file, path and values, such as path: [country, iso_code] and values: [DE]")
			return
		}
	}
	if _, err := m.networks(); err != nil {
		at.Errorf("%v", err)
	}
}

// networks reads the networks of the list.
func (m *MMDB) networks() ([]netip.Prefix, error) {
	db, err := maxminddb.Open(m.File)
	if err != nil {
		return nil, fmt.Errorf("open the database of networks: %w", err)
	}
	defer db.Close()
	path := make([]any, len(m.Path))
	for i, p := range m.Path {
		path[i] = p
	}
	found := map[string]bool{}
	var list []netip.Prefix
	for r := range db.Networks() {
		if r.Err() != nil {
			return nil, fmt.Errorf("read %s: %w", m.File, r.Err())
		}
		var v any
		if err := r.DecodePath(&v, path...); err != nil || v == nil {
			continue // the record has no such place
		}
		value := fmt.Sprint(v)
		if !slices.Contains(m.Values, value) {
			continue
		}
		found[value] = true
		if list = append(list, r.Prefix().Masked()); len(list) > maxNetworks {
			return nil, fmt.Errorf("%s has more than %d networks of %s", m.File, maxNetworks, strings.Join(m.Values, ", "))
		}
	}
	for _, v := range m.Values {
		if !found[v] {
			return nil, errors.New("no network of " + m.File + " has " + v + " at " + strings.Join(m.Path, "."))
		}
	}
	return list, nil
}
