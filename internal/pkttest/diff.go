package pkttest

import (
	"bytes"
	"fmt"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Diff is empty if the frames are the same, and shows both decoded otherwise.
func Diff(want, got []byte) string {
	if bytes.Equal(want, got) {
		return ""
	}
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	return fmt.Sprintf("first difference at byte %d of %d wanted, %d got\nwant %s\ngot %s",
		at, len(want), len(got), Decode(want), Decode(got))
}

// Decode shows the layers of a frame.
func Decode(frame []byte) string {
	return gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Dump()
}
