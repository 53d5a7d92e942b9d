package lb

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"anycastle/internal/daemon"
)

func TestOrdersOnTheSocket(t *testing.T) {
	lb, err := New(*mustParse(t, valid), Options{})
	check(t, err)
	serve := lb.Handlers()["POST /v1/order"]
	for _, tc := range []struct {
		name, body string
		status     int
		text       string
	}{
		{"drain", `{"farm": "smtp", "real": "mx1", "kind": "drain", "since": "0001-01-01T00:00:00Z", "by": "root"}`, http.StatusOK, ""},
		{"activate", `{"farm": "smtp", "real": "mx1", "kind": "activate", "since": "0001-01-01T00:00:00Z"}`, http.StatusOK, ""},
		{"no such real", `{"farm": "smtp", "real": "mx9", "kind": "drain"}`, http.StatusUnprocessableEntity, "has no real"},
		{"unknown key", `{"farm": "smtp", "real": "mx1", "kind": "drain", "dead": 1}`, http.StatusUnprocessableEntity, "unknown field"},
		{"not json", `drain mx1`, http.StatusUnprocessableEntity, "read what is asked"},
		{"too long", `{"why": "` + strings.Repeat("x", daemon.MaxQuestion) + `"}`, http.StatusUnprocessableEntity, "too large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			serve(w, httptest.NewRequest(http.MethodPost, "/v1/order", strings.NewReader(tc.body)))
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.text) {
				t.Fatalf("status %d, %q; want %d with %q", w.Code, w.Body, tc.status, tc.text)
			}
			if tc.status != http.StatusOK {
				return
			}
			var kept Order
			check(t, json.Unmarshal(w.Body.Bytes(), &kept))
			if kept.Real != "mx1" || kept.Since.IsZero() {
				t.Errorf("kept %+v", kept)
			}
			if _, ok := lb.data.Get(kept.Key()); !ok {
				t.Error("the order is not kept")
			}
		})
	}
}
