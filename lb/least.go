package lb

import "slices"

// least keeps the first few of many by an order, in bounded memory.
type least[T any] struct {
	limit   int
	compare func(a, b T) int
	list    []T
	seen    int
}

func (l *least[T]) add(v T) {
	l.seen++
	l.list = append(l.list, v)
	if len(l.list) >= 2*l.limit+16 {
		l.cut()
	}
}

func (l *least[T]) cut() {
	slices.SortFunc(l.list, l.compare)
	if len(l.list) > l.limit {
		clear(l.list[l.limit:])
		l.list = l.list[:l.limit]
	}
}

// take gives those that are kept, in order, and how many more there were.
func (l *least[T]) take() (list []T, more int) {
	l.cut()
	return append([]T{}, l.list...), l.seen - len(l.list)
}
