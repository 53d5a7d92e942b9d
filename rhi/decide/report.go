package decide

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"anycastle/internal/strict"
)

// Report is what a site tells the others of one VIP: its record in the mesh.
type Report struct {
	Generation int64 `json:"generation"` // rises with every change; of two reports the higher is the newer
	Role       Role  `json:"role"`
	Place      Place `json:"place"`
	Announced  bool  `json:"announced"` // decided, and read back as standing at one peer at least
	Healthy    bool  `json:"healthy"`   // checked just now, and good enough to be announced

	// Want is the number of this site's request to be let go, 0 if it has none. A site that is withdrawn, for health or by
	// an order without force, is so under the number that stands here. No number is used twice.
	Want  int64 `json:"want,omitempty"`
	Needs bool  `json:"needs,omitempty"` // the request is for now; else it is made beforehand

	// Holds has, by site, the request that this site has granted: it has promised to be the one that stays.
	Holds map[string]int64 `json:"holds,omitempty"`

	// Sees has the other sites of whose routes this one would know, and whether it has them in its BGP tables.
	Sees map[string]bool `json:"sees,omitempty"`
}

const (
	maxReport = 1000 // bytes: with a key they fit one change of the mesh
	maxSites  = 32   // other sites of a VIP
	maxName   = 64   // bytes of a site's name
)

// Encode gives the report as it is sent.
func (r Report) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(text) > maxReport {
		return nil, fmt.Errorf("a report of %d bytes; at most %d: name fewer sites", len(text), maxReport)
	}
	return text, nil
}

// DecodeReport undoes Encode. What it lets through, Next trips over no more than over the truth.
func DecodeReport(text []byte) (Report, error) {
	var r Report
	if len(text) > maxReport {
		return Report{}, fmt.Errorf("a report of %d bytes; at most %d", len(text), maxReport)
	}
	if err := strict.Unmarshal(text, &r); err != nil {
		return Report{}, err
	}
	return r, r.check()
}

func (r Report) check() error {
	switch {
	case r.Generation < 0 || r.Want < 0:
		return fmt.Errorf("generation %d and request %d; neither is negative", r.Generation, r.Want)
	case r.Role != Primary && r.Role != Backup:
		return fmt.Errorf("%.20q is no role", r.Role)
	case r.Place.level() < 0:
		return fmt.Errorf("%.20q is no place on the ladder", r.Place)
	case r.Announced && r.Place == PlaceWithdrawn:
		return errors.New("announced and withdrawn at once")
	case r.Needs && r.Want == 0:
		return errors.New("a need without a request")
	case len(r.Sees) > maxSites:
		return fmt.Errorf("it sees %d sites; at most %d", len(r.Sees), maxSites)
	}
	for name := range r.Sees {
		if name == "" || len(name) > maxName {
			return fmt.Errorf("%.20q... is no name of a site", name)
		}
	}
	return checkHolds(r.Holds)
}

func checkHolds(holds map[string]int64) error {
	if len(holds) > maxSites {
		return fmt.Errorf("it holds for %d sites; at most %d", len(holds), maxSites)
	}
	for name, want := range holds {
		if name == "" || len(name) > maxName || want <= 0 {
			return fmt.Errorf("%.20q: request %d is none that can be granted", name, want)
		}
	}
	return nil
}

func (r Report) clone() Report {
	r.Holds, r.Sees = maps.Clone(r.Holds), maps.Clone(r.Sees)
	return r
}

// same says whether two reports differ in nothing but their generation.
func (r Report) same(o Report) bool {
	return r.Role == o.Role && r.Place == o.Place && r.Announced == o.Announced && r.Healthy == o.Healthy &&
		r.Want == o.Want && r.Needs == o.Needs && maps.Equal(r.Holds, o.Holds) && maps.Equal(r.Sees, o.Sees)
}
