package gssbench

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// What has the test binary be a server instead: its kind, and where and what it serves.
const (
	serveEnv = "GSSBENCH_SERVE"
	portEnv  = "GSSBENCH_PORT"
	namesEnv = "GSSBENCH_NAMES"
)

func TestMain(m *testing.M) {
	serve := serveGSS
	switch os.Getenv(serveEnv) {
	case "":
		os.Exit(m.Run())
	case "library":
		serve = serveLibrary
	}
	port, err := strconv.ParseUint(os.Getenv(portEnv), 10, 16)
	if err == nil {
		var names int
		if names, err = strconv.Atoi(os.Getenv(namesEnv)); err == nil {
			err = serve(uint16(port), names)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
