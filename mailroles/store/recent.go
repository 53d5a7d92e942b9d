package store

import "time"

// txMemory is how long a transaction id is remembered.
const txMemory = time.Hour

// recents are the transaction ids of deliveries.
type recents struct {
	at    map[string]recent
	order []string // as they came; ids that came again are in it twice
}

// recent is one delivery.
type recent struct {
	at   int64  // Unix time
	lost bool   // no message's name tells of it any more
	sum  string // SHA-256 of the body, in hexadecimal; empty: not known
}

// add notes a delivery, and forgets those that are too old by then.
func (r *recents) add(tx string, at int64) {
	for len(r.order) > 0 && r.at[r.order[0]].at < at-int64(txMemory/time.Second) {
		delete(r.at, r.order[0])
		r.order = r.order[1:]
	}
	if known, ok := r.at[tx]; !ok || known.at < at {
		r.at[tx] = recent{at: at}
		r.order = append(r.order, tx)
	}
}

// tell notes the body of a delivery.
func (r *recents) tell(tx, sum string) {
	if e, ok := r.at[tx]; ok {
		e.sum = sum
		r.at[tx] = e
	}
}

// lose notes that the message of a delivery is gone.
func (r *recents) lose(tx string) {
	if e, ok := r.at[tx]; ok {
		e.lost = true
		r.at[tx] = e
	}
}

// has reports whether a delivery was within txMemory.
func (r *recents) has(tx string, now time.Time) bool {
	e, ok := r.at[tx]
	return ok && e.at >= now.Add(-txMemory).Unix()
}
