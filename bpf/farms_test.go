package bpf

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInstalledFarms(t *testing.T) {
	lb, err := LoadLB(pinDir(t), hashKey)
	put(t, err)
	defer lb.Close()
	for _, want := range [][]uint32{nil, {0}, {0, 3, MaxFarms - 1}} {
		for _, farm := range want {
			setFarm(t, lb, farm, allSlots(mx1Index))
		}
		got, err := lb.InstalledFarms()
		put(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("farms (-want +got):\n%s", diff)
		}
	}
}
