package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sync/errgroup"
)

// farmReaders is how many farms are looked up at a time.
const farmReaders = 64

// InstalledFarms gives the farms that have a table, in order. Before Linux 6.8 each look-up in a map of maps waits, like
// a change, until every packet that is under way is done, which takes tens of milliseconds; those that are made at the
// same time wait together.
func (lb *LB) InstalledFarms() ([]uint32, error) {
	var there [MaxFarms]bool
	var group errgroup.Group
	group.SetLimit(farmReaders)
	for farm := range uint32(MaxFarms) {
		group.Go(func() error {
			var id uint32
			err := lb.Farms.Lookup(farm, &id)
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("read slot table %d: %w", farm, err)
			}
			there[farm] = err == nil
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var farms []uint32
	for farm, is := range there {
		if is {
			farms = append(farms, uint32(farm))
		}
	}
	return farms, nil
}
