package group

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
)

// TestMain has more tests run at once than there are processors: they mostly wait for elections and disks.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		if err := f.Value.Set("4"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
