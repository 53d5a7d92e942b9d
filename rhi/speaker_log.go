package rhi

import (
	"context"
	"log/slog"
	"strings"
)

// stateName turns gobgp's SESSION_STATE_IDLE and BGP_FSM_IDLE into idle.
func stateName(s string) string {
	return strings.ToLower(s[strings.LastIndexByte(s, '_')+1:])
}

// onlyErrors keeps gobgp's chatter out of our log: the role itself logs what matters of it, and at gobgp's warn level a
// peer could fill the disk, with a line per connection that is turned away.
type onlyErrors struct{ slog.Handler }

func (h onlyErrors) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && h.Handler.Enabled(ctx, l)
}

func (h onlyErrors) WithAttrs(attrs []slog.Attr) slog.Handler {
	return onlyErrors{h.Handler.WithAttrs(attrs)}
}

func (h onlyErrors) WithGroup(name string) slog.Handler {
	return onlyErrors{h.Handler.WithGroup(name)}
}
