package mailtest

import (
	"os"
	"testing"

	"anycastle/internal/proctest"
)

// binary is the product, as a user builds it.
var binary string

func TestMain(m *testing.M) {
	os.Exit(proctest.Main(m, func(at string) { binary = at }))
}
