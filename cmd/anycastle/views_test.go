package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFlatten(t *testing.T) {
	var v any
	text := `{"sessions": 2, "rejects": {"unknown-recipient": 3}, "luns": [{"name": "lun-east", "state": "passing"}, 7]}`
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"luns lun-east state", "passing"},
		{"luns 1", "7"},
		{"rejects unknown-recipient", "3"},
		{"sessions", "2"},
	}
	if diff := cmp.Diff(want, flatten("", v)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}
