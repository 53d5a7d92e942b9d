package bpf

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"anycastle/internal/modeltest"
	"anycastle/internal/pkttest"
)

// number reads a number from the environment.
func number(t testing.TB, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

const (
	framesPerWorld = 100_000
	framesPerLook  = 25_000 // at everything that is counted or kept
	enoughFindings = 3      // in a world
	// rememberTime is a third of how long the program remembers a fragment; the model remembers it for good. On a slow machine
	// both are made to forget what is older.
	rememberTime = 10 * time.Second
)

// twins are a program and the model of it.
type twins interface {
	try(t testing.TB, frame []byte) difference
	compare(t testing.TB)
	forget(t testing.TB)
}

// begin makes twins for a world, and says where their frames come from.
type begin func(t *testing.T, w *modeltest.World, s *modeltest.Source) (both twins, next func() []byte)

// TestRandomPackets gives random frames to the program lb and to the model. ANYCASTLE_SEED repeats a run, and
// ANYCASTLE_RANDOM_PACKETS says how many frames it has.
func TestRandomPackets(t *testing.T) {
	begin := func(t *testing.T, w *modeltest.World, s *modeltest.Source) (twins, func() []byte) {
		return newTwin(t, w), s.Next
	}
	onRandomFrames(t, begin, number(t, "ANYCASTLE_RANDOM_PACKETS", 1_000_000))
}

// TestRandomPacketsAtReal does the same with the program real.
func TestRandomPacketsAtReal(t *testing.T) {
	begin := func(t *testing.T, w *modeltest.World, s *modeltest.Source) (twins, func() []byte) {
		h := w.NewHost()
		h.RedirectAlways = w.LB.ReplyByRedirect
		return newTwinHost(t, h), s.NextAtReal
	}
	onRandomFrames(t, begin, number(t, "ANYCASTLE_RANDOM_PACKETS", 1_000_000)/4)
}

// onRandomFrames compares in one world after the other, as many at a time as there are CPUs.
func onRandomFrames(t *testing.T, begin begin, frames uint64) {
	t.Helper()
	seed := number(t, "ANYCASTLE_SEED", 1) // a change must not fail for a fault that it did not bring
	t.Logf("%d frames; ANYCASTLE_SEED=%d repeats them", frames, seed)
	for world := uint64(0); world*framesPerWorld < frames; world++ {
		t.Run(fmt.Sprintf("world %d", world), func(t *testing.T) {
			t.Parallel()
			w := modeltest.NewWorld(rand.New(rand.NewPCG(seed, 2*world)))
			w.LB.ReplyByRedirect = world%2 == 1
			p, next := begin(t, w, modeltest.NewSource(w, rand.New(rand.NewPCG(seed, 2*world+1))))
			findings, forgot := 0, time.Now()
			for i := range min(framesPerWorld, frames-world*framesPerWorld) {
				frame := next()
				if diff := p.try(t, frame); diff.kind != "" {
					small := shrink(t, p, frame, diff.kind)
					t.Errorf("ANYCASTLE_SEED=%d, world %d, frame %d of %d bytes: %s\n%s\nshrunk to\n%s\n%s",
						seed, world, i, len(frame), diff.kind, diff.text, pkttest.Decode(small), p.try(t, small).text)
					if findings++; findings == enoughFindings {
						return
					}
				}
				if (i+1)%framesPerLook == 0 && findings == 0 {
					p.compare(t)
				}
				if time.Since(forgot) > rememberTime {
					p.forget(t)
					forgot = time.Now()
				}
			}
			if findings == 0 {
				p.compare(t)
			}
		})
	}
}

// shrink gives a frame about which there is the same kind of difference, with as many zeros and as little behind as
// can be had by trying.
func shrink(t testing.TB, p twins, frame []byte, kind string) []byte {
	t.Helper()
	small := frame
	for n := len(frame) / 2; n > 0; n /= 2 {
		for len(small)-n >= pkttest.EthLen && p.try(t, small[:len(small)-n]).kind == kind {
			small = small[:len(small)-n]
		}
	}
	small = bytes.Clone(small)
	for i := range small {
		before := small[i]
		if small[i] = 0; before != 0 && p.try(t, small).kind != kind {
			small[i] = before
		}
	}
	return small
}
