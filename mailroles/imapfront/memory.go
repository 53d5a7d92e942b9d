package imapfront

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// quiet is for how long nobody has logged in when memory is given back.
	quiet = 4 * time.Second
	// busyTrim is how often it is given back while people do.
	busyTrim = time.Minute
)

// giveBack returns memory to the system when many have logged in: a handshake and a password check take some hundred times
// what the session holds afterwards, and the runtime would keep as much again as is in use.
func (s *Server) giveBack(ctx context.Context) {
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	var given, before uint64 // logins
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		logins := s.opt.Tally.Counts().Done
		if logins != given && (logins == before || time.Since(last) >= busyTrim) {
			debug.FreeOSMemory()
			given, last = logins, time.Now()
		}
		before = logins
	}
}
