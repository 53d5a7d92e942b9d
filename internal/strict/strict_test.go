package strict

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestUnmarshal(t *testing.T) {
	for _, tc := range []struct{ name, text, err string }{
		{"a value", `{"a": 1}`, ""},
		{"space around it", " \n{\"a\": 1}\t\n", ""},
		{"an unknown key", `{"a": 1, "b": 2}`, `unknown field "b"`},
		{"another value", `{"a": 1} {"a": 1}`, "something follows it"},
		{"a bracket too many", `{"a": 1}}`, "something follows it"},
		{"a list's end", `{"a": 1}]`, "something follows it"},
		{"text", `{"a": 1} x`, "something follows it"},
		{"another type", `{"a": "1"}`, "cannot unmarshal string"},
		{"half a value", `{"a": `, "unexpected EOF"},
		{"nothing", ``, "EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var v struct {
				A int `json:"a"`
			}
			switch err := Unmarshal([]byte(tc.text), &v); {
			case tc.err == "" && (err != nil || v.A != 1):
				t.Errorf("%+v, %v", v, err)
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}

func TestReaderFails(t *testing.T) {
	broken := errors.New("broken")
	for _, text := range []string{"{}", `{"a"`} {
		var v struct{}
		if err := Decode(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), &v); !errors.Is(err, broken) {
			t.Errorf("%s: error %v, want that of the reader", text, err)
		}
	}
}
