package wire

import (
	"context"
	"errors"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
)

// A front end has a certificate of the same CA. It must not be able to pass for a member, at either end.
func TestOnlyItsCertificateMakesAMember(t *testing.T) {
	ca := mtlstest.NewCA(t)
	a, b, front := newSide(t, ca, "a", 0), newSide(t, ca, "b", 0), newSide(t, ca, "front", 0)
	members := map[string]string{"a": a.addr, "b": b.addr}
	b.join(t, "lun-east", 1, members)

	front.node.opt.Self = "a"
	posing := front.join(t, "lun-east", 1, members)
	for _, kind := range kinds {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := posing.Dial(ctx, kind, "b")
		cancel()
		if !errors.Is(err, ErrRefused) {
			t.Errorf("a front end that calls itself a member, for %s: %v, want %v", kind, err, ErrRefused)
		}
	}

	ga := a.join(t, "lun-east", 1, map[string]string{"a": a.addr, "b": b.addr, "front": b.addr})
	if c, err := ga.Dial(t.Context(), Hello, "front"); err == nil {
		c.Close()
		t.Error("dialled a member, and took another one for it")
	}
	if c, err := ga.Dial(t.Context(), Hello, "b"); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}

func TestNodeWithACertificateOfAnother(t *testing.T) {
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "mx1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Self: "east-store1", Server: material.Server(), Client: material.ClientOfAny()}
	if _, err := New(opt); err == nil {
		t.Error("a node whose certificate does not name it was made")
	}
	opt.Self = "mx1"
	if _, err := New(opt); err != nil {
		t.Error(err)
	}
}
