package drain

import (
	"time"

	"anycastle/internal/config"
)

// Config is in the section of every role that can be drained.
type Config struct {
	AgentListen config.ListenAddr `yaml:"agent_listen"`   // for the agent-check of load balancers; default none
	Lead        time.Duration     `yaml:"drain_lead"`     // from saying so to letting nobody in; default 2s, and none without agent_listen
	Deadline    time.Duration     `yaml:"drain_deadline"` // from then on to cutting off what is left; default 30s
}

// Bounds of the times.
const (
	maxLead     = 10 * time.Minute
	minDeadline = time.Second
	maxDeadline = time.Hour
)

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() { *c = Config{Lead: 2 * time.Second, Deadline: 30 * time.Second} }

// Validate reports what is wrong. at is the role's section.
func (c *Config) Validate(at config.Cursor) {
	if c.Lead < 0 || c.Lead > maxLead {
		at.Key("drain_lead").Errorf("%v must be from 0 to %v", c.Lead, maxLead)
	}
	if c.Deadline < minDeadline || c.Deadline > maxDeadline {
		at.Key("drain_deadline").Errorf("%v must be from %v to %v", c.Deadline, minDeadline, maxDeadline)
	}
}

// lead is how long to go on after saying that the role drains: nobody hears it without an agent listener.
func (c *Config) lead() time.Duration {
	if !c.announced() {
		return 0
	}
	return c.Lead
}

// announced says whether there is an agent listener.
func (c *Config) announced() bool { return c.AgentListen.Port != 0 }
