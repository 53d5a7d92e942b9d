package probe

import (
	"context"
	"fmt"
)

// compile gives the probe that a config asks for, with what it needs read from files.
func compile(c *Config) (Func, error) {
	var f Func
	switch c.Type {
	case "tcp":
		f = tcp
	default:
		return nil, fmt.Errorf("no probe is of type %q", c.Type)
	}
	return func(ctx context.Context, t Target, said *Advice) error {
		if err := f(ctx, t, said); err != nil {
			return fmt.Errorf("%s %v: %w", t.Config.Type, t.Addr, err)
		}
		return nil
	}, nil
}
