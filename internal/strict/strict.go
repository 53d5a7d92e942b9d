// Package strict reads JSON that another program wrote: one value, with no key that is not known, and nothing after it.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Unmarshal decodes text into v, which it may have changed when it fails.
func Unmarshal(text []byte, v any) error { return Decode(bytes.NewReader(text), v) }

// Decode reads to the end of r and decodes that into v, which it may have changed when it fails. It sets no bound.
func Decode(r io.Reader, v any) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	switch _, err := dec.Token(); { // More would take a bracket too many for the end
	case err == io.EOF:
		return nil
	case err != nil && !errors.As(err, new(*json.SyntaxError)):
		return err // of r
	}
	return errors.New("something follows it")
}
