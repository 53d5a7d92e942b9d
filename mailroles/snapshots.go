package mailroles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"anycastle/internal/daemon"
	"anycastle/internal/strict"
	"anycastle/mailroles/store"
)

// SnapshotState is one snapshot of a LUN, as this node has it.
type SnapshotState struct {
	LUN string `json:"lun"`
	store.LUNSnapshot
}

// SnapshotOrder asks for a snapshot.
type SnapshotOrder struct {
	LUN string `json:"lun"` // empty: the only one of this node
}

// RestoreRequest asks for a restore, or only for its plan.
type RestoreRequest struct {
	store.RestoreOrder
	DryRun bool `json:"dry_run"`
}

// RestoreAnswer has the plan of a dry run, or what a restore did.
type RestoreAnswer struct {
	Plan *store.RestorePlan `json:"plan,omitempty"`
	Done *store.Restored    `json:"done,omitempty"`
}

// restoreTime bounds one restore, and the writing of one snapshot that an operator waits for.
const restoreTime = time.Hour

// Snapshots answers about the snapshots of the LUNs that are open here, by name; luns gives them at any time, and active the
// replica that is the active store of a LUN.
type Snapshots struct {
	log    *slog.Logger
	luns   func() map[string]*store.Store
	active func(lun string) string
}

// NewSnapshots makes the part of a store role that answers about snapshots.
func NewSnapshots(log *slog.Logger, luns func() map[string]*store.Store, active func(lun string) string) *Snapshots {
	return &Snapshots{log: log, luns: luns, active: active}
}

// Handlers takes orders about snapshots, and tells which there are, by pattern.
func (s *Snapshots) Handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /v1/snapshot":      s.list,
		"POST /v1/lun-snapshot": answerLong(s, s.take),
		"POST /v1/lun-restore":  answerLong(s, s.restore),
	}
}

// find gives an open LUN.
func (s *Snapshots) find(lun string) (string, *store.Store, error) {
	luns := s.luns()
	names := slices.Sorted(maps.Keys(luns))
	if lun == "" && len(names) == 1 {
		lun = names[0]
	}
	switch mail := luns[lun]; {
	case mail != nil:
		return lun, mail, nil
	case len(names) == 0:
		return "", nil, errors.New("no LUN is open here")
	case lun == "":
		return "", nil, fmt.Errorf("say which LUN: %s", strings.Join(names, ", "))
	default:
		return "", nil, fmt.Errorf("LUN %s is not open here; there is %s", lun, strings.Join(names, ", "))
	}
}

func (s *Snapshots) list(w http.ResponseWriter, r *http.Request) {
	list := []SnapshotState{}
	luns := s.luns()
	for _, name := range slices.Sorted(maps.Keys(luns)) {
		for _, l := range luns[name].Snapshots() {
			list = append(list, SnapshotState{LUN: name, LUNSnapshot: l})
		}
	}
	s.write(w, r, list)
}

func (s *Snapshots) write(w http.ResponseWriter, r *http.Request, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Warn("answer on the socket", "path", r.URL.Path, "err", err)
	}
}

func (s *Snapshots) take(ctx context.Context, o SnapshotOrder) (SnapshotState, error) {
	name, mail, err := s.find(o.LUN)
	if err != nil {
		return SnapshotState{}, err
	}
	l, err := mail.TakeSnapshot(ctx)
	return SnapshotState{LUN: name, LUNSnapshot: l}, s.whereElse(name, err)
}

func (s *Snapshots) restore(ctx context.Context, q RestoreRequest) (RestoreAnswer, error) {
	name, mail, err := s.find(q.LUN)
	if err != nil {
		return RestoreAnswer{}, err
	}
	q.LUN = name
	if q.DryRun {
		p, err := mail.Plan(q.RestoreOrder)
		return RestoreAnswer{Plan: &p}, err
	}
	done, err := mail.Restore(ctx, q.RestoreOrder)
	err = s.whereElse(name, err)
	if err != nil && done.Put+done.Folders > 0 {
		err = fmt.Errorf("%d messages and %d folders are back, then: %w; run it again, which goes on where it ended", done.Put, done.Folders, err)
	}
	return RestoreAnswer{Done: &done}, err
}

// whereElse adds to an error which replica is active, if that is what is missing here.
func (s *Snapshots) whereElse(lun string, err error) error {
	if !errors.Is(err, store.ErrPassive) {
		return err
	}
	if is := s.active(lun); is != "" {
		return fmt.Errorf("%w; %s is: give the order there", err, is)
	}
	return fmt.Errorf("%w, and none is that is known of here", err)
}

// answerLong is daemon.Answer for what takes longer than a socket gives other questions.
func answerLong[Q, A any](s *Snapshots, answer func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if err := strict.Decode(http.MaxBytesReader(w, r.Body, daemon.MaxQuestion), &q); err != nil {
			http.Error(w, fmt.Sprintf("read what is asked: %v", err), http.StatusUnprocessableEntity)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), restoreTime)
		defer cancel()
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(restoreTime)); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		a, err := answer(ctx, q)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		s.write(w, r, a)
	}
}
