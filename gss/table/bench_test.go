package table

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkAnswer asks for names by chance, without and with DO.
func BenchmarkAnswer(b *testing.B) {
	for _, count := range []int{1000, 100_000} {
		table, names := manyNames(b, count, signatureSize)
		for _, kind := range []struct {
			name string
			opt  []byte
		}{
			{"plain", nil},
			{"dnssec", []byte{0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 0}},
		} {
			b.Run(fmt.Sprintf("answer/%s/names=%d", kind.name, count), func(b *testing.B) {
				r := rand.New(rand.NewPCG(1, 2))
				queries := make([][]byte, 1<<16)
				all := make([]byte, 0, 64*len(queries)) // in one piece: a server's come in few buffers
				for i := range queries {
					at := len(all)
					all = append(all, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, byte(min(len(kind.opt), 1)))
					all = append(append(all, names[r.IntN(count)]...), 0, 1, 0, 1)
					all = append(all, kind.opt...)
					queries[i] = all[at:len(all):len(all)]
				}
				dst, c, i := make([]byte, defaultSize), client("192.0.2.53"), 0
				b.ReportAllocs()
				for b.Loop() {
					if _, ok := table.Answer(dst, queries[i&(1<<16-1)], c); !ok {
						b.Fatal("not answered")
					}
					i++
				}
				b.ReportMetric(float64(table.Size())/(1<<20), "table_MiB")
			})
		}
	}
}

// BenchmarkBuild builds a table again, as after a change.
func BenchmarkBuild(b *testing.B) {
	builder := newBuilder(b, Config{})
	for i := range 20_000 {
		name := fmt.Sprintf("host%d.example.org.", i)
		check(b, builder.Add(name, 1, 0, reply{answer: []string{name + " 5 A 192.0.2.1"}}.fixed(b, name, 1)))
	}
	b.Run("build/entries=20000", func(b *testing.B) {
		for b.Loop() {
			build(b, builder)
		}
	})
}
