package gss

import (
	"testing"

	"anycastle/gss/decide"
)

// A newer version may tell more than this one knows.
func TestTellingOfANewerVersion(t *testing.T) {
	v := newVantages("gss-a")
	const text = `{"boot":1,"number":1,"load":{"x":1},"views":[{"a":"smtp-east","v":"failing","since":7}],` +
		`"drains":[{"o":"site/east","s":1,"by":"root"}]}`
	if _, err := v.take("gss-b", []byte(text), clock); err != nil {
		t.Fatal(err)
	}
	if s := v.of(nil, nil, clock)["gss-b"].Answers["smtp-east"]; s.View != decide.Failing {
		t.Errorf("it is seen as %+v", s)
	}
	if _, err := v.take("gss-b", []byte(`{"boot":1,"number":2} {}`), clock); err == nil {
		t.Error("two tellings in one are taken")
	}
}
