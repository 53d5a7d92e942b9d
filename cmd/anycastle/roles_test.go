package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// steps are what two tasks did, in order, and when.
type steps struct {
	mu    sync.Mutex
	began time.Time
	list  []string
}

func (s *steps) add(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, time.Since(s.began).String()+" "+what)
}

// task runs until it is told to stop, or until it fails; 0: it does not.
func (s *steps) task(name string, failing time.Duration, err error) func(context.Context) error {
	return func(ctx context.Context) error {
		s.add(name + " begins")
		defer s.add(name + " ends")
		if failing == 0 {
			<-ctx.Done()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(failing):
			return err
		}
	}
}

// Routers hear of a balancer only when it has what is its own, and of its last withdrawals.
func TestSpeakerOfABalancer(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		taken, stop                     time.Duration // 0: never
		speakerFailing, balancerFailing time.Duration
		want                            []string
		wantErr                         error
	}{
		"stopped": {taken: time.Second, stop: 5 * time.Second,
			want: []string{"0s balancer begins", "1s speaker begins", "5s balancer ends", "5s speaker ends"}},
		"another has what is its own": {balancerFailing: time.Second, wantErr: broken,
			want: []string{"0s balancer begins", "1s balancer ends"}},
		"the balancer fails": {taken: time.Second, balancerFailing: 3 * time.Second, wantErr: broken,
			want: []string{"0s balancer begins", "1s speaker begins", "3s balancer ends", "3s speaker ends"}},
		"the speaker fails": {taken: time.Second, speakerFailing: 3 * time.Second, wantErr: broken,
			want: []string{"0s balancer begins", "1s speaker begins", "4s speaker ends", "4s balancer ends"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &steps{began: time.Now()}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				taken := make(chan struct{})
				if test.taken > 0 {
					time.AfterFunc(test.taken, func() { close(taken) })
				}
				if test.stop > 0 {
					time.AfterFunc(test.stop, stop)
				}
				speaker, balancer := s.task("speaker", test.speakerFailing, broken), s.task("balancer", test.balancerFailing, broken)
				if err := beside(taken, speaker, balancer)(ctx); !errors.Is(err, test.wantErr) {
					t.Errorf("it ends with %v", err)
				}
				if !slices.Equal(s.list, test.want) {
					t.Errorf("%q; want %q", s.list, test.want)
				}
			})
		})
	}
}

// A site selector's addresses are announced only while it answers at them.
func TestSpeakerOfASelector(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		answers, stop                   time.Duration // 0: never
		speakerFailing, selectorFailing time.Duration
		want                            []string
		wantErr                         error
	}{
		"stopped": {answers: time.Second, stop: 5 * time.Second,
			want: []string{"0s selector begins", "1s speaker begins", "5s speaker ends", "6s selector ends"}},
		"stopped before it answers": {stop: 5 * time.Second, want: []string{"0s selector begins", "5s selector ends"}},
		"the selector fails": {answers: time.Second, selectorFailing: 3 * time.Second, wantErr: broken,
			want: []string{"0s selector begins", "1s speaker begins", "3s selector ends", "3s speaker ends"}},
		"the selector fails before it answers": {selectorFailing: 3 * time.Second, wantErr: broken,
			want: []string{"0s selector begins", "3s selector ends"}},
		"the speaker fails": {answers: time.Second, speakerFailing: 3 * time.Second, wantErr: broken,
			want: []string{"0s selector begins", "1s speaker begins", "4s speaker ends", "4s selector ends"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &steps{began: time.Now()}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				answering := make(chan struct{})
				if test.answers > 0 {
					time.AfterFunc(test.answers, func() { close(answering) })
				}
				if test.stop > 0 {
					time.AfterFunc(test.stop, stop)
				}
				speaker, selector := s.task("speaker", test.speakerFailing, broken), s.task("selector", test.selectorFailing, broken)
				if err := while(answering, speaker, selector)(ctx); !errors.Is(err, test.wantErr) {
					t.Errorf("it ends with %v", err)
				}
				if !slices.Equal(s.list, test.want) {
					t.Errorf("%q; want %q", s.list, test.want)
				}
			})
		})
	}
}
