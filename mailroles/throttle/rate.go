package throttle

import (
	"sync"
	"time"
)

// Rate bounds how often each account may do something in an hour. The zero Rate is ready.
type Rate struct {
	mu   sync.Mutex
	used table[string, usage]
}

// usage is how much of its hour an account has used.
type usage struct {
	n  float64
	at time.Time // when n was right
}

// Take counts one time, unless the account has used up its hour. A whole hour's worth may be taken at once; it comes back
// evenly.
func (r *Rate) Take(name string, perHour int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.used.get(name)
	now := time.Now()
	u.n = max(u.n-float64(perHour)*now.Sub(u.at).Hours(), 0)
	u.at = now
	if u.n+1 > float64(perHour) {
		return false
	}
	u.n++
	return true
}

// Return takes back one time that came to nothing.
func (r *Rate) Return(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.used.get(name)
	u.n = max(u.n-1, 0)
}
