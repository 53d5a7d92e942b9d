package group

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"

	"anycastle/mailroles/replica/chain"
)

func applyRaw(r *raft.Raft, data []byte) { r.ApplyLog(raft.Log{Data: data}, 0) }

// TestSlots has a value outlive the damage of either half.
func TestSlots(t *testing.T) {
	path := filepath.Join(t.TempDir(), "value")
	s, err := createSlots(path, 512, []byte("one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := s.write(make([]byte, 512)); err == nil {
		t.Error("a value that does not fit was written")
	}
	for half := range int64(2) {
		if _, err := s.f.WriteAt([]byte{0xff}, half*512+20); err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		var value []byte
		if s, value, err = openSlots(path, 512, nil); err != nil || string(value) != "two" {
			t.Fatalf("half %d damaged: %q, %v", half, value, err)
		}
	}
	// A write that was torn after its first half.
	if _, err := s.f.WriteAt(appendSlot(nil, s.seq+1, []byte("three")), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s, value, err := openSlots(path, 512, nil)
	if err != nil || string(value) != "three" {
		t.Fatalf("torn between the halves: %q, %v", value, err)
	}
	if second, _, err := s.read(1); err != nil || string(second) != "three" {
		t.Errorf("the second half was not mended: %q, %v", second, err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// TestPromise has votes and answers exclude each other.
func TestPromise(t *testing.T) {
	p := newPromise(time.Minute)
	if p.vote("a", 1, false) {
		t.Error("a vote just after the start")
	}
	p.until = 0
	if !p.vote("a", 2, false) {
		t.Error("no vote without a leader")
	}
	if p.answer("old", 1) {
		t.Error("an answer to an older leader while a vote is considered")
	}
	p.decided(2, false)
	if !p.answer("old", 1) {
		t.Error("no answer after a vote that was not given")
	}
	if p.vote("a", 2, false) {
		t.Error("a vote within the lease of another")
	}
	if may, _ := p.stand(2, false); may {
		t.Error("stood within the lease of another")
	}
	if p.handOver("old", 7) || p.handOver("a", 1) {
		t.Error("a hand-over by another than the leader")
	}
	if !p.vote("a", 2, true) {
		t.Error("no vote for one to whom the leader handed over")
	}
	p.decided(2, true)
	if p.answer("old", 1) {
		t.Error("an answer to the leader before a vote that was given")
	}
	if !p.answer("a", 2) || !p.handOver("a", 2) {
		t.Error("the new leader is not known")
	}
	if may, handed := p.stand(4, true); may || handed {
		t.Error("a hand-over counts for another term than the next")
	}
	if may, handed := p.stand(3, true); !may || !handed {
		t.Error("a hand-over does not count")
	}
}

// TestOldAnswersGiveNoLease has answers count by when their request was sent, so that a process that was stopped finds no
// lease when it goes on, whatever waits to be read.
func TestOldAnswersGiveNoLease(t *testing.T) {
	p := newPeers()
	names := []string{"a", "b"}
	p.answered("a", 3, bootTime(), 7)
	p.answered("b", 3, bootTime().add(-time.Minute), 7)
	p.answered("b", 2, bootTime(), 9)
	if got := p.recent(names, 3, 10*time.Second); got != 1 {
		t.Errorf("%d answers are recent, want 1", got)
	}
	if got := p.matched("b", 3); got != 7 {
		t.Errorf("matched %d, want 7: what was said in an older term is over", got)
	}
	p.answered("a", 4, bootTime(), 0)
	if got := p.recent(names, 3, 10*time.Second); got != 0 || p.matched("b", 4) != 0 {
		t.Errorf("after a newer term: %d recent, b matched %d", got, p.matched("b", 4))
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add(frame{term: 3, prev: chain.Sum{}.Next([]byte("a")), record: []byte("b")}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseFrame(b)
		if err == nil && !bytes.Equal(got.append(nil), b) {
			t.Errorf("%x is read as %x", b, got.append(nil))
		}
	})
}

func FuzzSlot(f *testing.F) {
	f.Add(appendSlot(nil, 7, []byte("value")))
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		value, seq, err := parseSlot(b)
		if again := appendSlot(nil, seq, value); err == nil && !bytes.HasPrefix(b, again) {
			t.Errorf("%x is read as %x", b, again)
		}
	})
}

func FuzzEntry(f *testing.F) {
	var b bytes.Buffer
	if err := (codec{}).Encode(&raft.Log{Index: 5, Term: 2, Data: []byte("data"), AppendedAt: time.Unix(7, 8)}, &b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		var l raft.Log
		if (codec{}).Decode(in, &l) != nil {
			return
		}
		var out bytes.Buffer
		if err := (codec{}).Encode(&l, &out); err != nil || !bytes.Equal(out.Bytes(), in) {
			t.Errorf("%x is read as %x, %v", in, out.Bytes(), err)
		}
	})
}

func FuzzSegments(f *testing.F) {
	s := types.PersistentState{NextSegmentID: 3, Segments: []types.SegmentInfo{
		{ID: 1, BaseIndex: 1, MinIndex: 1, MaxIndex: 9, Codec: codecID, IndexStart: 99, CreateTime: time.Unix(1, 2), SealTime: time.Unix(3, 4), SizeLimit: 5},
		{ID: 2, BaseIndex: 10, MinIndex: 10, Codec: codecID, CreateTime: time.Unix(1, 2), SizeLimit: 5},
	}}
	encoded := appendSegments(nil, s)
	if got, err := parseSegments(encoded); err != nil || cmp.Diff(s, got) != "" {
		f.Fatalf("%v, %s", err, cmp.Diff(s, got))
	}
	f.Add(encoded)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSegments(b)
		if err == nil && !bytes.Equal(appendSegments(nil, s), b) {
			t.Errorf("%x is read as %x", b, appendSegments(nil, s))
		}
	})
}

// FuzzBase has a seed, which comes from the network, never be one that the library would panic for.
func FuzzBase(f *testing.F) {
	f.Add([]byte(`{"Note":{"Index":3,"Term":1,"Members":"gQ==","MembersAt":3,"At":{"Index":3}},"Ballot":{"era":1,"term":1}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if b, err := parseBase(in); err == nil {
			raft.DecodeConfiguration(b.Note.Members)
		}
	})
}
