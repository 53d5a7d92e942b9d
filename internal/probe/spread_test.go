package probe

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Places are spread over the whole interval after a while, whatever the number of targets.
func TestPlacesSpreadOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10
		var targets []Target
		for i := range n {
			targets = append(targets, target(fmt.Sprint(i), byte(i), time.Second, time.Second))
		}
		r := startRunner(t, passes, targets...)
		<-time.After((settleIn+1)*time.Second - 1)
		synctest.Wait()
		r.j.take()
		<-time.After(999 * time.Millisecond)
		synctest.Wait()
		var places []string
		for i := range n {
			places = append(places, fmt.Sprintf("%v %d passing", (settleIn+1)*time.Second+time.Duration(i)*time.Second/n, i))
		}
		if diff := cmp.Diff(places, r.j.take()); diff != "" {
			t.Errorf("places (-want +got):\n%s", diff)
		}
	})
}

// Targets that come together are probed in groups, whose places spread over the interval. Those of 250 ms and of 1 s keep in
// step.
func TestGroupsShareTheirMoments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		targets := func(n int, interval time.Duration) (list []Target) {
			for i := range n {
				list = append(list, target(fmt.Sprintf("%v/%d", interval, i), byte(i), interval, interval))
			}
			return list
		}
		moments := func(r *running) (list []string) {
			<-time.After(30 * time.Second)
			synctest.Wait()
			r.j.take()
			<-time.After(time.Second)
			synctest.Wait()
			for _, line := range r.j.take() {
				at, _, _ := strings.Cut(line, " ")
				if len(list) == 0 || list[len(list)-1] != at {
					list = append(list, at)
				}
			}
			return list
		}
		r := startRunner(t, passes)
		r.group = together
		r.set(append(targets(6, 250*time.Millisecond), targets(6, time.Second)...)...)
		if got := moments(r); len(got) != 4 {
			t.Errorf("12 targets of 250 ms and 1 s are probed at %v, want 4 moments a second", got)
		}
		r = startRunner(t, passes)
		r.group = together
		r.set(targets(3*together, time.Second)...)
		if got := moments(r); len(got) != 3 {
			t.Errorf("%d targets are probed at %v, want 3 moments a second", 3*together, got)
		}
	})
}
