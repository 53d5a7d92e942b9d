package probe

import "context"

// tcp connects and closes.
func tcp(ctx context.Context, t Target, _ *Advice) error {
	conn, err := t.dial(ctx, "tcp")
	if err != nil {
		return err
	}
	return conn.Close()
}
