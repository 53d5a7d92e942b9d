package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxFlowSize bounds the bytes that one flow takes: two IPv6 addresses with ports, and the keys.
const maxFlowSize = 160

// ReadFlows reads a list of at most limit flows as it comes, and gives each to take. It ends with the first error of take.
// It gives how many flows it read: after an error, those before it.
func ReadFlows(from io.Reader, limit int, take func(Flow) error) (n int, err error) {
	limit = max(0, min(limit, MaxFlows))
	dec := json.NewDecoder(io.LimitReader(from, int64(limit+1)*maxFlowSize))
	dec.DisallowUnknownFields()
	if err := bracket(dec, '['); err != nil {
		return 0, fmt.Errorf("read flows: %w", err)
	}
	for dec.More() {
		if n == limit {
			return n, fmt.Errorf("read flows: there are more than the %d asked for", limit)
		}
		var f Flow
		err := dec.Decode(&f)
		if err == nil {
			err = f.check()
		}
		if err != nil {
			return n, fmt.Errorf("read flows: %w", err)
		}
		n++
		if err := take(f); err != nil {
			return n, err
		}
	}
	if err := bracket(dec, ']'); err != nil {
		return n, fmt.Errorf("read flows: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return n, errors.New("read flows: something follows them")
	}
	return n, nil
}

func bracket(dec *json.Decoder, want json.Delim) error {
	t, err := dec.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err == nil && t != want {
		err = fmt.Errorf("%v in place of %v", t, want)
	}
	return err
}

func (f Flow) check() error {
	if err := errors.Join(checkAddr(f.Client.Addr()), checkAddr(f.VIP.Addr()), checkProtocol(f.Protocol)); err != nil {
		return err
	}
	if f.Client.Addr().Is4() != f.VIP.Addr().Is4() {
		return fmt.Errorf("%v and %v are of two IP versions", f.Client, f.VIP)
	}
	return nil
}
