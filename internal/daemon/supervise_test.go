package daemon

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"
)

// asSupervisor makes the test binary a supervisor of one child, to be killed.
const asSupervisor = "ANYCASTLE_TEST_SUPERVISOR"

func TestMain(m *testing.M) {
	if os.Getenv(asSupervisor) != "" {
		Supervise(context.Background(), slog.New(slog.DiscardHandler), []Child{
			{Name: "child", Argv: []string{"sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"}, Output: os.Stdout},
		})
	}
	os.Exit(m.Run())
}

// A supervisor that is killed takes its children along: the next one must not find old processes on the sockets.
func TestChildrenOfAKilledSupervisorEnd(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asSupervisor+"=yes")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	err = cmd.Start()
	w.Close() // what is left are the copies of the supervisor and of its child
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(r)
	if line, err := out.ReadString('\n'); line != "up\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Errorf("the child outlives its supervisor: %v", err)
	}
}
