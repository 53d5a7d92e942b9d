package probe

import (
	"reflect"
	"time"

	"anycastle/internal/config"
)

// Config says how a target is probed.
type Config struct {
	Type         string        `yaml:"type"`          // tcp: connect and close
	Port         uint16        `yaml:"port"`          // port to probe; 0: the one that the owner of the probe implies
	Interval     time.Duration `yaml:"interval"`      // from the start of one probe to the start of the next; default 1s
	SlowInterval time.Duration `yaml:"slow_interval"` // instead of Interval after 20 passes in a row, until the first failure; default none
	Timeout      time.Duration `yaml:"timeout"`       // a probe without a result by then has failed; default 500ms, at most Interval
	Fail         int           `yaml:"fail"`          // failures in a row that take a target out; default 2
	Pass         int           `yaml:"pass"`          // passes in a row that bring it back; default 2
	Window       Window        `yaml:"window"`        // failures that take a target out although they are not in a row; default none
}

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	*c = Config{Type: "tcp", Interval: time.Second, Timeout: 500 * time.Millisecond, Fail: 2, Pass: 2}
}

// equal says whether two configs ask for the same.
func (c *Config) equal(d *Config) bool { return c == d || reflect.DeepEqual(c, d) }

// Validate reports what is wrong with the probe.
func (c *Config) Validate(at config.Cursor) {
	if c.Type != "tcp" {
		at.Key("type").Errorf("no probe is of type %q; use tcp", c.Type)
	}
	c.checkTimes(at)
	c.checkCounts(at)
}

func (c *Config) checkTimes(at config.Cursor) {
	if c.Interval < 10*time.Millisecond {
		at.Key("interval").Errorf("%v is too short; at least 10ms", c.Interval)
	}
	if c.SlowInterval != 0 && c.SlowInterval <= c.Interval {
		at.Key("slow_interval").Errorf("%v must be longer than the interval, %v, or be left out", c.SlowInterval, c.Interval)
	}
	if c.Timeout <= 0 || c.Timeout > c.Interval {
		at.Key("timeout").Errorf("%v must be more than 0 and at most the interval, %v", c.Timeout, c.Interval)
	}
}

func (c *Config) checkCounts(at config.Cursor) {
	if c.Fail < 1 || c.Fail > 100 {
		at.Key("fail").Errorf("%d must be from 1 to 100 results in a row", c.Fail)
	}
	if c.Pass < 1 || c.Pass > 100 {
		at.Key("pass").Errorf("%d must be from 1 to 100 results in a row", c.Pass)
	}
	if c.Window == (Window{}) {
		return
	}
	at = at.Key("window")
	if c.Window.Size < 2 || c.Window.Size > maxWindow {
		at.Key("size").Errorf("%d must be from 2 to %d results", c.Window.Size, maxWindow)
		return
	}
	if c.Window.Fail < 2 || c.Window.Fail > c.Window.Size {
		at.Key("fail").Errorf("%d must be from 2 to the window's size, %d", c.Window.Fail, c.Window.Size)
	}
}
