package decide

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"anycastle/internal/strict"
)

// Place is where a VIP stands at this site. Groups of peers map it to their rungs.
type Place string

// The places, from the top of the ladder down.
const (
	PlaceFull      Place = "full" // the best that the site's role allows
	PlaceDegraded  Place = "degraded"
	PlaceDraining  Place = "draining"
	PlaceParked    Place = "parked" // it flapped too much; see Damping
	PlaceLast      Place = "last"   // the end of the ladder: announced for want of another
	PlaceWithdrawn Place = "withdrawn"
)

// level numbers the places from the top down; -1: it is none.
func (p Place) level() int {
	return slices.Index([]Place{PlaceFull, PlaceDegraded, PlaceDraining, PlaceParked, PlaceLast, PlaceWithdrawn}, p)
}

// lower gives the place that is further down.
func lower(a, b Place) Place {
	if a.level() > b.level() {
		return a
	}
	return b
}

// Cause is what a VIP is withdrawn for.
type Cause string

// The causes. Health and Order stand under a grant of another site; Start and Force do not.
const (
	CauseNone   Cause = ""
	CauseStart  Cause = "start" // it was not announced yet since the process began
	CauseHealth Cause = "health"
	CauseOrder  Cause = "order"
	CauseForce  Cause = "force"
)

// Aim is the place that health alone would give a VIP.
type Aim string

// The aims.
const (
	AimFull     Aim = "full"
	AimDegraded Aim = "degraded"
	AimOut      Aim = "out"
)

func (a Aim) level() int { return slices.Index([]Aim{AimFull, AimDegraded, AimOut}, a) }

// Record is what is kept of one VIP between decisions. It may be lost with the process: then the VIP starts as a new one,
// which costs time and is never unsafe.
type Record struct {
	Place Place           `json:"place"`
	Cause Cause           `json:"cause,omitempty"` // if it is withdrawn
	Since time.Time       `json:"since"`           // at this place
	Why   string          `json:"why"`
	Rungs map[string]Rung `json:"rungs,omitempty"` // by group, as decided last

	Boot  time.Time `json:"boot"`  // the process that decided last
	Learn time.Time `json:"learn"` // until when it learns

	Aim      Aim       `json:"aim,omitempty"` // "": nothing was known yet
	AimSince time.Time `json:"aim_since"`
	AimWhy   string    `json:"aim_why"`

	Flaps  int           `json:"flaps"`              // falls of the aim, ever
	Hold   time.Duration `json:"hold,omitempty"`     // hold-down that the last flap set
	HoldAt time.Time     `json:"hold_at,omitzero"`   // when that was
	Fell   time.Time     `json:"fell,omitzero"`      // when it last left the upper places, not by an order
	Again  time.Time     `json:"activated,omitzero"` // the last order to activate that was carried out

	Penalty   float64   `json:"penalty,omitempty"`
	PenaltyAt time.Time `json:"penalty_at,omitzero"`
	Parked    bool      `json:"parked,omitempty"`

	Withdrew time.Time `json:"withdrew,omitzero"` // when it was last withdrawn for health
	Drained  time.Time `json:"drained,omitzero"`  // when the drain that is done was ordered

	Asked int64  `json:"asked,omitempty"` // number of the last request to be let go
	By    string `json:"by,omitempty"`    // the site that has let it go
	Said  Report `json:"said"`            // what the other sites were told last; its Want and Holds are ours
}

// State has the records of a site's VIPs.
type State map[netip.Prefix]Record

// maxStored bounds what DecodeState takes: some thousand VIPs.
const maxStored = 16 << 20

// Encode gives the state as it is kept.
func (s State) Encode() ([]byte, error) { return json.Marshal(s) }

// DecodeState undoes Encode. An error says that the state cannot be used; begin with an empty one then.
func DecodeState(text []byte) (State, error) {
	if len(text) > maxStored {
		return nil, fmt.Errorf("a state of %d bytes; at most %d", len(text), maxStored)
	}
	s := State{}
	if err := strict.Unmarshal(text, &s); err != nil {
		return nil, err
	}
	if s == nil {
		return nil, errors.New("the state is null")
	}
	for prefix, rec := range s {
		if !prefix.IsValid() || prefix != prefix.Masked() {
			return nil, fmt.Errorf("%v is no prefix of a VIP", prefix)
		}
		if err := rec.check(); err != nil {
			return nil, fmt.Errorf("%v: %w", prefix, err)
		}
	}
	return s, nil
}

func (r Record) check() error {
	switch {
	case r.Place.level() < 0:
		return fmt.Errorf("%.20q is no place on the ladder", r.Place)
	case !slices.Contains([]Cause{CauseNone, CauseStart, CauseHealth, CauseOrder, CauseForce}, r.Cause):
		return fmt.Errorf("%.20q is no cause", r.Cause)
	case (r.Place == PlaceWithdrawn) != (r.Cause != CauseNone):
		return fmt.Errorf("place %s with cause %q", r.Place, r.Cause)
	case r.Aim != "" && r.Aim.level() < 0:
		return fmt.Errorf("%.20q is no aim", r.Aim)
	case r.Hold < 0 || r.Flaps < 0 || r.Asked < 0 || r.Asked > maxNumber:
		return fmt.Errorf("hold-down %v, flaps %d, request %d; out of range", r.Hold, r.Flaps, r.Asked)
	case !(r.Penalty >= 0) || math.IsInf(r.Penalty, 0):
		return fmt.Errorf("a penalty of %g", r.Penalty)
	case r.Said.Want > r.Asked:
		return fmt.Errorf("request %d was not made: the last was %d", r.Said.Want, r.Asked)
	case r.Said.Place != r.Place:
		return fmt.Errorf("at place %s, and told others %.20q", r.Place, r.Said.Place)
	}
	for name, rung := range r.Rungs {
		if rung < 0 || rung > MaxRungs && rung != Withdrawn {
			return fmt.Errorf("group %q at %v", name, rung)
		}
	}
	for _, t := range []time.Time{r.Since, r.Boot, r.Learn, r.AimSince, r.HoldAt, r.Fell, r.Again, r.PenaltyAt, r.Withdrew, r.Drained} {
		if y := t.Year(); !t.IsZero() && (y < 1970 || y > 9998) {
			return fmt.Errorf("%v is no time of this era", t)
		}
	}
	return r.Said.check()
}

// clone copies what Next changes of a record.
func (r Record) clone() Record {
	r.Rungs, r.Said = maps.Clone(r.Rungs), r.Said.clone()
	return r
}
