package gss

import (
	"context"
	"runtime"
	"testing"
	"time"

	"anycastle/gss/transfer"
)

// Replies are not packed anew while a reload or a transfer makes others: those would replace what was packed, by signatures of before.
func TestPackWaitsForAReload(t *testing.T) {
	d := newDeciding(t, secondaryFile("{address: 192.0.2.53:53}"))
	d.reloading.Lock()
	was := d.engine.serving()
	d.repack()
	packing, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.pack(packing) }()
	waitFor(t, "the order to be taken", func() bool { return len(d.stale) == 0 })
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end) && d.engine.serving() == was; {
		runtime.Gosched()
	}
	next, _, err := was.with(map[string]transfer.Content{"mail.example.org.": {Zone: secondaryZone(t, "7", ""), Good: true}})
	if err == nil {
		err = d.engine.serve(next)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.reloading.Unlock()
	waitFor(t, "the new replies to be packed anew", func() bool { return d.engine.serving() != next })
	stop()
	<-ended
}
