package mailroles

import (
	"errors"
	"io"
	"net"
	"testing"
)

// TestOnlyTalkers has a server not see who connects and goes as a probe does, and see at once who says something.
func TestOnlyTalkers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := onlyTalkers(ln); err != nil {
		t.Fatal(err)
	}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for range 3 {
		c := dial()
		if err := errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close()); err != nil {
			t.Fatal(err)
		}
	}
	talker := dial()
	defer talker.Close()
	if _, err := talker.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != talker.LocalAddr().String() {
		t.Errorf("%v was taken, want the talker, %v", c.RemoteAddr(), talker.LocalAddr())
	}
	heard := make([]byte, 5)
	if _, err := io.ReadFull(c, heard); err != nil || string(heard) != "hello" {
		t.Errorf("heard %q, %v", heard, err)
	}
}
