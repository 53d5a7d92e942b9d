package group

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// libraryLog has what the library logs, which is about each of its messages, go to the debug level.
func libraryLog(to *slog.Logger) hclog.Logger {
	if !to.Enabled(context.Background(), slog.LevelDebug) {
		return hclog.NewNullLogger()
	}
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Debug})
	l.RegisterSink(librarySink{to})
	return l
}

type librarySink struct{ to *slog.Logger }

// Accept logs one message.
func (s librarySink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	attrs := []any{"library", level.String()}
	for i := 0; i+1 < len(args); i += 2 {
		attrs = append(attrs, slog.Any(fmt.Sprint(args[i]), fmt.Sprint(args[i+1])))
	}
	s.to.Debug(msg, attrs...)
}
