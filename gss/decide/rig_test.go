package decide

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const baseTTL = 5 * time.Second

// rig is a GSS whose inputs a test changes step by step.
type rig struct {
	t     *testing.T
	in    Inputs
	now   time.Time
	state State
	last  Decision
}

// newRig has three sites with an answer each, one group of them all, and one rule by a method. The only vantage sees all pass.
func newRig(t *testing.T, m Method) *rig {
	r := &rig{t: t, now: epoch, in: Inputs{
		Self: "gss-a", Vantages: map[string]Vantage{}, Reports: map[string][]Report{}, Orders: map[string]Order{},
		Config: Config{
			Groups: []Group{{"all", []string{"east", "west", "south"}}},
			Rules:  []Rule{{Name: "smtp", Clauses: []Clause{{Group: "all", Method: m, TTL: baseTTL, ShortTTL: 2 * time.Second}}}},
			Load:   DefaultLoad(), Vote: DefaultVote(),
		},
	}}
	for _, site := range r.in.Config.Groups[0].Answers {
		r.in.Config.Answers = append(r.in.Config.Answers, Answer{Name: site, Site: site, Weight: 100, FailBack: 10 * time.Second})
	}
	r.vantages("gss-a")
	for _, site := range r.in.Config.Groups[0].Answers {
		r.see("gss-a", site, Passing)
	}
	return r
}

func (r *rig) vantages(names ...string) {
	for _, n := range names {
		r.in.Vantages[n] = Vantage{Heard: r.now, Answers: map[string]Seen{}}
	}
}

// see has a vantage see an answer so.
func (r *rig) see(vantage, answer string, v View) {
	seen := Seen{View: v}
	if v == Failing {
		seen.Failed, seen.Why = true, "no answer within 500ms"
	}
	r.in.Vantages[vantage].Answers[answer] = seen
}

// silent has a vantage not be heard since a time before now.
func (r *rig) silent(vantage string, since time.Duration) {
	v := r.in.Vantages[vantage]
	v.Heard = r.now.Add(-since)
	r.in.Vantages[vantage] = v
}

// next decides, after a time, and checks that deciding again changes nothing.
func (r *rig) next(after time.Duration) Decision {
	r.t.Helper()
	r.now = r.now.Add(after)
	r.state, r.last = Next(r.state, r.in, r.now)
	again, last := Next(r.state, r.in, r.now)
	r.same("state", r.state, again)
	r.same("decision", r.last, last)
	return r.last
}

// same compares what was decided twice.
func (r *rig) same(what string, first, second any) {
	r.t.Helper()
	if reflect.DeepEqual(first, second) {
		return
	}
	if diff := cmp.Diff(first, second, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Decision{})); diff != "" {
		r.t.Fatalf("decided again, the %s differs (-first +second):\n%s", what, diff)
	}
}

func (r *rig) place(answer string) Place { return r.last.Answers[answer].Place }

// choice is what the rule is answered with.
func (r *rig) choice() Choice { return r.last.Rules["smtp"].Choices[0] }

func (r *rig) expect(what string, b Basis, names ...string) {
	r.t.Helper()
	c := r.choice()
	if diff := cmp.Diff(names, c.Names()); diff != "" || c.Basis != b {
		r.t.Errorf("%s: answered with %v by %s (%s), want %v by %s", what, c.Names(), c.Basis, c.Why, names, b)
	}
	if c.Why == "" {
		r.t.Errorf("%s: it does not say why", what)
	}
}
