package bpf

import (
	"os"
	"strings"
	"testing"
	"time"

	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
)

// peer is another balancer, measured in turns with ours. It takes the VIP vipTCP.
type peer struct {
	name string
	prog *ebpf.Program
	warm time.Duration // for each flow, before it is measured
}

// peerEnv names a foreign balancer as NAME=PATH, the path being that of its pinned XDP program. Whoever pins it has set
// it up to wrap a packet for vipTCP as ours does (see packetKinds).
const peerEnv = "ANYCASTLE_BENCH_PEER"

// foreignWarm is for balancers that take only so many new flows into their table in a second, whatever is sent.
const foreignWarm = time.Second / 100_000

func peers(t testing.TB) []peer {
	t.Helper()
	list := []peer{{name: "table", prog: newTablePeer(t, tableSize).prog}}
	setting, ok := os.LookupEnv(peerEnv)
	if !ok {
		return list
	}
	name, path, ok := strings.Cut(setting, "=")
	if !ok {
		t.Fatalf("%s=%s: want NAME=PATH, the path of a pinned XDP program", peerEnv, setting)
	}
	prog, err := ebpf.LoadPinnedProgram(path, nil)
	if err != nil {
		t.Fatalf("%s: %v", peerEnv, err)
	}
	t.Cleanup(func() { prog.Close() })
	return append(list, peer{name, prog, foreignWarm})
}

// newMeter gives a meter of the peer, which has seen every flow.
func (p peer) newMeter(t testing.TB, l traffic) *meter {
	t.Helper()
	l = p.answers(t, l)
	begin := l
	begin.stride = inTurn
	warm := newHarness(t, p.prog, begin)
	for began := time.Now(); ; {
		warm.run(t, l.flows)
		if time.Since(began) >= time.Duration(l.flows)*p.warm {
			break
		}
	}
	_, err := warm.made()
	put(t, err)
	return newMeter(t, p.prog, l)
}

// answers gives the traffic with the verdict that the peer gives a frame of it, after a look at whether it wraps one.
func (p peer) answers(t testing.TB, l traffic) traffic {
	t.Helper()
	verdict, out, err := p.prog.Test(l.frame)
	put(t, err)
	if len(out) != len(l.frame)+l.grow {
		t.Fatalf("%s makes a frame of %d bytes out of one of %d, with verdict %d; want %d bytes more", p.name, len(out), len(l.frame), verdict, l.grow)
	}
	l.verdict = verdict
	return l
}

// tableSize has room for the most flows that are measured, and a third more.
const tableSize = 4_000_000

// tablePeer is testdata/table.c: a balancer that keeps connections.
type tablePeer struct {
	prog *ebpf.Program
	ring *ebpf.Map // slot to index of a real
}

type (
	service struct {
		Addr        uint32
		Port, Proto uint16
	}
	server struct {
		Addr, Source   uint32
		DstMac, SrcMac [6]byte
	}
)

// newTablePeer sets the peer up as newLB and setScene do ours.
func newTablePeer(t testing.TB, size uint32) *tablePeer {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpec("testdata/table.o")
	put(t, err)
	spec.Maps["connections"].MaxEntries = size
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("load the peer: %+v", err)
	}
	t.Cleanup(coll.Close)
	put(t, coll.Maps["services"].Put(service{Addr: Addr4(vipTCP.Addr()), Port: Port(vipTCP.Port()), Proto: 6}, uint32(vipIndex)))
	for i, addr := range realAddrs(mx1) {
		s := server{Addr: Addr4(addr), Source: Addr4(lbAddr), DstMac: [6]byte(pkttest.MAC(9)), SrcMac: [6]byte(pkttest.MAC(2))}
		put(t, coll.Maps["servers"].Put(uint32(1+i), s))
	}
	indexes, places := make([]uint32, Slots), make([]uint32, Slots)
	for i := range indexes {
		places[i], indexes[i] = uint32(i), uint32(1+i%manyReals)
	}
	_, err = coll.Maps["ring"].BatchUpdate(places, indexes, nil)
	put(t, err)
	return &tablePeer{prog: coll.Programs["table"], ring: coll.Maps["ring"]}
}
