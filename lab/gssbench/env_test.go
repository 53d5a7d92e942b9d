package gssbench

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"anycastle/internal/proctest"
)

// binary is the product, as a user builds it.
var binary string

func TestMain(m *testing.M) {
	os.Exit(proctest.Main(m, func(at string) { binary = at }))
}

// pause lets time pass in which nothing is waited for but that nothing goes wrong.
func pause(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// load is the machine's load average of the last minute: what it was busy with beside the benchmark.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s on %d processors", bytes.Fields(text)[0], runtime.NumCPU())
}
