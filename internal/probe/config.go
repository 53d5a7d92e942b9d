package probe

import (
	"time"

	"anycastle/internal/config"
)

// Config says how a target is probed.
type Config struct {
	Type     string        `yaml:"type"`     // tcp: connect and close
	Port     uint16        `yaml:"port"`     // port to probe; 0: the one that the owner of the probe implies
	Interval time.Duration `yaml:"interval"` // from the start of one probe to the start of the next; default 1s
	Timeout  time.Duration `yaml:"timeout"`  // a probe without a result by then has failed; default 500ms, at most Interval
	Fail     int           `yaml:"fail"`     // results in a row that take a target out; default 2
	Pass     int           `yaml:"pass"`     // results in a row that bring it back; default 2
}

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	*c = Config{Type: "tcp", Interval: time.Second, Timeout: 500 * time.Millisecond, Fail: 2, Pass: 2}
}

// Validate reports what is wrong with the probe.
func (c *Config) Validate(at config.Cursor) {
	if c.Type != "tcp" {
		at.Key("type").Errorf("no probe is of type %q; use tcp", c.Type)
	}
	if c.Interval < 10*time.Millisecond {
		at.Key("interval").Errorf("%v is too short; at least 10ms", c.Interval)
	}
	if c.Timeout <= 0 || c.Timeout > c.Interval {
		at.Key("timeout").Errorf("%v must be more than 0 and at most the interval, %v", c.Timeout, c.Interval)
	}
	if c.Fail < 1 || c.Fail > 100 {
		at.Key("fail").Errorf("%d must be from 1 to 100 results in a row", c.Fail)
	}
	if c.Pass < 1 || c.Pass > 100 {
		at.Key("pass").Errorf("%d must be from 1 to 100 results in a row", c.Pass)
	}
}
