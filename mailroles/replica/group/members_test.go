package group

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestSlowTransfer has a member that is told to lead take longer for it than the library waits.
func TestSlowTransfer(t *testing.T) {
	t.Parallel()
	d := &badDisk{}
	c := running(t, three, func(o *Options) {
		if o.Self == "w1" {
			o.test.faults = d.check
		}
	})
	l := c.leader()
	hang := make(chan struct{})
	d.fail("write", "votes", nil, hang)
	time.AfterFunc(3*quick.Election/2, func() {
		d.fail("", "", nil, nil)
		close(hang)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := l.group().Transfer(ctx, "w1"); err != nil {
		t.Fatal(err)
	}
	if next := c.leader(); next.name != "w1" {
		t.Errorf("%s leads", next.name)
	}
}

// TestAdmitInTurn has votes taken away from one member at a time, and nobody wait for one that is gone.
func TestAdmitInTurn(t *testing.T) {
	t.Parallel()
	c := running(t, five, func(o *Options) { o.test.admit = 3 * time.Second })
	l := c.leader()
	c.kill("w1")
	c.kill("w2")
	admit := func(name string) error { return l.group().Admit(t.Context(), name) }
	if err := admit("w1"); err != nil {
		t.Fatal(err)
	}
	if err := admit("w1"); err != nil {
		t.Errorf("it may not ask again: %v", err)
	}
	if err := admit("w2"); !errors.Is(err, ErrWait) {
		t.Errorf("a second vote was taken away: %v", err)
	}
	c.join("w1")
	if err := admit("w2"); err != nil {
		t.Errorf("the first has its vote, and the second must wait: %v", err)
	}
	c.join("w2")
	c.kill("w1")
	c.kill("w2")
	if err := admit("w1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "nobody waits for one that does not come", func() bool {
		err := admit("w2")
		if err != nil && !errors.Is(err, ErrWait) {
			t.Fatal(err)
		}
		return err == nil
	})
	if _, err := l.add("with three of five"); err != nil {
		t.Error(err)
	}
}
