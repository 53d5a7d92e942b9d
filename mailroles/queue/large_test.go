package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// A queue of 100,000 messages opens in seconds, and takes some hundred bytes of memory for each.
func TestLargeQueueOpens(t *testing.T) {
	const count = 100_000
	w := newWorld(t)
	w.dir = filepath.Join(inMemory(t), ".queue")
	if _, err := w.open(); err != nil { // makes the folders
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	for i := range count {
		e := &entry{ID: newID(time.UnixMicro(int64(i))), Tx: fmt.Sprintf("%032x", i), From: alice, Arrived: time.Now(), Size: 5}
		address := fmt.Sprintf("user%d@d%d.example", i, i%1000)
		domain, _ := destinationOf(address)
		e.addRecipient(domain, &recipient{Address: address, State: Waiting, Code: 451, Status: "4.4.1", Last: "mx [192.0.2.1]: connect: connection refused"})
		e.Legs[0].Next = later
		text, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		for dir, text := range map[string][]byte{entryDir: text, bodyDir: []byte("body\n")} { // without waiting for the disk
			if err := os.WriteFile(filepath.Join(w.dir, dir, e.ID), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, worked := time.Now(), cpuTime(t)
	q, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	worked = cpuTime(t) - worked
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / count
	start = time.Now()
	shown := len(q.Status())
	t.Logf("%d messages open in %v, of which %v work, with %d bytes of memory each, and are shown in %v", count, took, worked, each, time.Since(start))
	if s := q.Summary(); s.Entries != count || shown != count || s.SetAside != 0 {
		t.Errorf("it holds %+v", s)
	}
	if worked > 30*time.Second || each > 3000 { // a busy machine takes longer for the same work
		t.Errorf("it takes %v of work and %d bytes each", worked, each)
	}
}

// cpuTime is what the processors have worked for this process.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
