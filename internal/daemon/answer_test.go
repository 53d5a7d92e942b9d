package daemon

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswer(t *testing.T) {
	serve := Answer(slog.New(slog.DiscardHandler), func(q struct{ A int }) (map[string]int, error) {
		if q.A < 0 {
			return nil, errors.New("A is below 0")
		}
		return map[string]int{"twice": 2 * q.A}, nil
	})
	for _, tc := range []struct {
		name, body string
		status     int
		text       string
	}{
		{"a question", `{"a": 2}`, http.StatusOK, `{"twice":4}`},
		{"one that has no answer", `{"a": -1}`, http.StatusUnprocessableEntity, "A is below 0"},
		{"an unknown key", `{"b": 2}`, http.StatusUnprocessableEntity, "unknown field"},
		{"two", `{"a": 2} {"a": 2}`, http.StatusUnprocessableEntity, "something follows it"},
		{"none", ``, http.StatusUnprocessableEntity, "read what is asked: EOF"},
		{"one that has no end", `{"a": ` + strings.Repeat(" ", MaxQuestion), http.StatusUnprocessableEntity, "too large"},
		{"space that has no end", `{"a": 2}` + strings.Repeat(" ", MaxQuestion), http.StatusUnprocessableEntity, "too large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			serve(w, httptest.NewRequest(http.MethodPost, "/v1/a", strings.NewReader(tc.body)))
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.text) {
				t.Errorf("status %d, %q; want %d with %q", w.Code, w.Body, tc.status, tc.text)
			}
		})
	}
}
