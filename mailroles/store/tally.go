package store

import "container/heap"

// tally knows the least of the indexes that things have, of however many. The zero value is an empty one.
type tally struct {
	at     map[string]uint64
	count  map[uint64]int // things by their index
	sorted indexes        // has each index that something has, and some that nothing has any more
}

// set gives a thing an index.
func (t *tally) set(key string, index uint64) {
	if was, there := t.at[key]; there && was == index {
		return
	}
	t.drop(key)
	if t.at == nil {
		t.at, t.count = map[string]uint64{}, map[uint64]int{}
	}
	t.at[key] = index
	if t.count[index]++; t.count[index] > 1 {
		return
	}
	heap.Push(&t.sorted, index)
	if len(t.sorted) > 2*len(t.count)+64 { // one that stays keeps all that came later and went
		t.sorted = t.sorted[:0]
		for index := range t.count {
			t.sorted = append(t.sorted, index)
		}
		heap.Init(&t.sorted)
	}
}

// drop takes a thing out.
func (t *tally) drop(key string) {
	index, there := t.at[key]
	if !there {
		return
	}
	delete(t.at, key)
	if t.count[index]--; t.count[index] == 0 {
		delete(t.count, index)
	}
	for len(t.sorted) > 0 && t.count[t.sorted[0]] == 0 {
		heap.Pop(&t.sorted)
	}
}

// first gives the least index, 0 when there is none.
func (t *tally) first() uint64 {
	if len(t.sorted) == 0 {
		return 0
	}
	return t.sorted[0]
}

// indexes is a heap.
type indexes []uint64

func (h indexes) Len() int           { return len(h) }
func (h indexes) Less(i, j int) bool { return h[i] < h[j] }
func (h indexes) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *indexes) Push(x any) { *h = append(*h, x.(uint64)) }

// Pop implements heap.Interface.
func (h *indexes) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
