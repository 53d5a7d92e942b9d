package gss

import (
	"slices"

	"github.com/miekg/dns"
)

// ruleSet are the rules of a valid config, compiled. It is never changed.
type ruleSet struct {
	config  *Config
	classes *classes
	answers map[string]*Answer
	names   map[string]map[uint16][]int // by canonical name and type: rules by their place in the config, in its order
	rules   []compiledRule
}

// compiledRule says, by class of clients, whether a rule is for them, and at which place they are.
type compiledRule struct {
	*Rule
	fits   []bool
	places []int
}

func newRuleSet(c *Config) (*ruleSet, error) {
	s := &ruleSet{config: c, answers: map[string]*Answer{}, names: map[string]map[uint16][]int{}}
	var err error
	if s.classes, err = newClasses(c.Sources); err != nil {
		return nil, err
	}
	for i := range c.Answers {
		s.answers[c.Answers[i].Name] = &c.Answers[i]
	}
	list := func(name string) int {
		return slices.IndexFunc(c.Sources, func(l Sources) bool { return l.Name == name })
	}
	for i := range c.Rules {
		r := compiledRule{Rule: &c.Rules[i]}
		for _, lists := range s.classes.lists {
			fits := len(r.Sources) == 0 || slices.ContainsFunc(r.Sources, func(name string) bool { return lists[list(name)] })
			place := slices.IndexFunc(r.Near, func(n Near) bool { return lists[list(n.Sources)] }) + 1
			r.fits, r.places = append(r.fits, fits), append(r.places, place)
		}
		s.rules = append(s.rules, r)
		for _, d := range r.Domains {
			name := dns.CanonicalName(d)
			if s.names[name] == nil {
				s.names[name] = map[uint16][]int{}
			}
			for _, t := range r.types() {
				s.names[name][t] = append(s.names[name][t], i)
			}
		}
	}
	return s, nil
}

// depends says whether what a name and type are answered with depends on the client's class.
func (s *ruleSet) depends(name string, rrtype uint16) bool {
	return slices.ContainsFunc(s.names[name][rrtype], func(i int) bool { return len(s.rules[i].Sources)+len(s.rules[i].Near) > 0 })
}

// find gives the rule for a name, type and class of clients; -1 if none is for them.
func (s *ruleSet) find(name string, rrtype uint16, class int) int {
	for _, i := range s.names[name][rrtype] {
		if s.rules[i].fits[class] {
			return i
		}
	}
	return -1
}
