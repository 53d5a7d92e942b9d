package replica

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"anycastle/mailroles/replica/bodies"
	"anycastle/mailroles/store"
)

// A store that has just been opened finds no message in its tree before it has done the operations of before its start. When
// all replicas are started at once each would say for certain that it does not have a body, and the message be given up.
func TestBodyIsNotDeniedByAStoreThatIsNotSettled(t *testing.T) {
	mail, err := store.OpenWith(store.Options{Root: t.TempDir(), Journal: journal{}})
	if err != nil {
		t.Fatal(err)
	}
	defer mail.Close()
	var ref storeRef
	ref.set(mail)
	b := bodies.Body{Mailbox: "u1@example.org", Name: "1.M1P1.host", Sum: strings.Repeat("0", 64), Size: 3}
	if _, err := ref.OpenBody(b); err == nil || errors.Is(err, store.ErrNoMessage) {
		t.Errorf("not settled: %v, want another error than that there is no message", err)
	}
	mail.Expect(0)
	if _, err := ref.OpenBody(b); !errors.Is(err, store.ErrNoMessage) {
		t.Errorf("settled: %v, want %v", err, store.ErrNoMessage)
	}
}

// Whoever brings a body may take long. That must not keep others from asking how it stands when the store is closed.
func TestStoreThatIsInUseIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ref storeRef
		mail := &store.Store{}
		ref.set(mail)
		_, done := ref.use()
		closed := make(chan struct{})
		go func() {
			ref.set(nil)
			close(closed)
		}()
		synctest.Wait()
		if got := ref.get(); got != nil {
			t.Error("a store that is being closed was given")
		}
		if got, _ := ref.use(); got != nil {
			t.Error("a store that is being closed is used")
		}
		select {
		case <-closed:
			t.Error("the store was closed while it was used")
		default:
		}
		done()
		<-closed
	})
}
