package probe

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
)

func TestTCP(t *testing.T) {
	ln, addr := listen(t, "127.0.0.1:0")
	cfg := Config{Type: "tcp", Timeout: long}
	if _, err := try(t.Context(), t, cfg, addr); err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the target reads %v, want a reset: a close would leave TIME_WAIT behind", err)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := try(ended, t, cfg, addr); err == nil {
		t.Error("a probe with a context that is done passes")
	}

	ln.Close()
	_, err = try(t.Context(), t, cfg, addr)
	if want := fmt.Sprintf("tcp %v: connect: connection refused", addr); !errors.Is(err, syscall.ECONNREFUSED) || err.Error() != want {
		t.Errorf("with nothing listening the error is %q, want %q", err, want)
	}
}
