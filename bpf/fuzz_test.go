package bpf

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"anycastle/internal/modeltest"
	"anycastle/internal/pkttest"
)

// seedFrames is how many random frames are looked through for one of each kind.
const seedFrames = 20_000

// FuzzLBFrame gives a frame to the program lb and to the model.
func FuzzLBFrame(f *testing.F) {
	w := modeltest.NewWorld(rand.New(rand.NewPCG(1, 0)))
	seeds := modeltest.NewSource(w, rand.New(rand.NewPCG(1, 1)))
	kinds := map[string]bool{}
	for range seedFrames {
		frame := seeds.Next()
		r := w.LB.Run(frame, modeltest.Ingress)
		kind := fmt.Sprint(r.Verdict, r.Reason, r.TooBig, w.LB.Reals[r.Real].Kind, r.Second != 0, frame[12:14])
		if !kinds[kind] {
			kinds[kind] = true
			f.Add(frame)
		}
	}
	w = modeltest.NewWorld(rand.New(rand.NewPCG(1, 0)))
	both := newTwin(f, w)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < pkttest.EthLen || len(frame) > modeltest.Longest {
			return // the kernel would not run the program
		}
		both.forget(t)
		if diff := both.try(t, frame); diff.kind != "" {
			t.Errorf("%s\n%s\nfor\n%s", diff.kind, diff.text, pkttest.Decode(frame))
		}
	})
}

// FuzzRealFrame gives a frame to the program real and to the model.
func FuzzRealFrame(f *testing.F) {
	w := modeltest.NewWorld(rand.New(rand.NewPCG(1, 0)))
	h, seeds := w.NewHost(), modeltest.NewSource(w, rand.New(rand.NewPCG(1, 1)))
	kinds := map[string]bool{}
	for range seedFrames {
		frame := seeds.NextAtReal()
		r := h.Run(frame)
		kind := fmt.Sprint(r.Verdict, r.Reason, frame[12:14])
		if !kinds[kind] {
			kinds[kind] = true
			f.Add(frame)
		}
	}
	both := newTwinHost(f, w.NewHost())
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < pkttest.EthLen || len(frame) > modeltest.Longest {
			return
		}
		both.forget(t)
		if diff := both.try(t, frame); diff.kind != "" {
			t.Errorf("%s\n%s\nfor\n%s", diff.kind, diff.text, pkttest.Decode(frame))
		}
	})
}
