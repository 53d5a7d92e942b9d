package replica

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/store"
)

// shortLog is a log that begins with operation 3, where 5 is a change of the members, and 6 is empty.
type shortLog struct{ first uint64 }

func (l *shortLog) Status() group.Status { return group.Status{First: l.first, Last: 9} }

func (l *shortLog) Record(index uint64) ([]byte, time.Time, error) {
	switch {
	case index < l.first, index == 5:
		return nil, time.Time{}, group.ErrGone
	case index == 6:
		return nil, time.Time{}, nil
	case index == 9:
		return nil, time.Time{}, errRotten
	}
	return fmt.Append(nil, index), time.Time{}, nil
}

var errRotten = errors.New("rotten")

func TestRecords(t *testing.T) {
	stop := errors.New("stop")
	for name, test := range map[string]struct {
		from, to uint64
		each     error
		cut      bool // the log loses its beginning meanwhile
		want     string
		err      error
	}{
		"all that is kept":    {from: 3, to: 8, want: "3 4 7 8 "},
		"one":                 {from: 4, to: 4, want: "4 "},
		"none":                {from: 4, to: 3},
		"before what is kept": {from: 2, to: 4, err: store.ErrNotKept},
		"stopped":             {from: 3, to: 8, each: stop, want: "3 ", err: stop},
		"damaged":             {from: 8, to: 9, want: "8 ", err: errRotten},
		"cut meanwhile":       {from: 3, to: 4, cut: true, want: "3 ", err: store.ErrNotKept},
	} {
		t.Run(name, func(t *testing.T) {
			log, got := &shortLog{first: 3}, ""
			err := walk(log, test.from, test.to, func(index uint64, record []byte) error {
				got += string(record) + " "
				if test.cut {
					log.first = 5
				}
				return test.each
			})
			if diff := cmp.Diff(test.want, got); diff != "" || !errors.Is(err, test.err) {
				t.Errorf("%s; %v, want %v", diff, err, test.err)
			}
		})
	}
}
