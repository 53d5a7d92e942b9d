package probe

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Config says how a target is probed. A key with a list of types belongs to these alone.
type Config struct {
	Type string `yaml:"type"` // one of those in the package comment; default tcp
	// port to probe; 0: the one that the owner of the probe implies
	Port uint16 `yaml:"port" takes:"tcp tls http https smtp lmtp imap dns exec agent-check"`

	Interval     time.Duration `yaml:"interval"`      // from the start of one probe to the start of the next; default 1s
	SlowInterval time.Duration `yaml:"slow_interval"` // instead, after 20 passes in a row until a failure; default none
	Timeout      time.Duration `yaml:"timeout"`       // a probe without a result by then has failed; default 500ms
	Fail         int           `yaml:"fail"`          // failures in a row that take a target out; default 2
	Pass         int           `yaml:"pass"`          // passes in a row that bring it back; default 2
	Window       Window        `yaml:"window"`        // failures that take it out without being in a row; default none

	// TLS
	TLS         string        `yaml:"tls" takes:"smtp lmtp imap"`                    // starttls or implicit; default neither
	CA          string        `yaml:"ca" takes:"tls https smtp lmtp imap"`           // PEM file; default the system's CAs
	ServerName  string        `yaml:"server_name" takes:"tls https smtp lmtp imap"`  // in the certificate; https: default host
	Insecure    bool          `yaml:"insecure" takes:"tls https smtp lmtp imap"`     // any certificate; imap: password in clear
	MinValidity time.Duration `yaml:"min_validity" takes:"tls https smtp lmtp imap"` // that the certificate must have left

	// HTTP
	Method string `yaml:"method" takes:"http https"` // default GET
	Path   string `yaml:"path" takes:"http https"`   // with its query; default /
	Host   string `yaml:"host" takes:"http https"`   // the Host header; default the target's address and port
	Status []int  `yaml:"status" takes:"http https"` // any of these passes; default 200
	Body   string `yaml:"body" takes:"http https"`   // must be in the first 64 kB of the body; default anything

	// mail
	Rcpt     string `yaml:"rcpt" takes:"smtp lmtp"`     // a recipient that must be accepted; it is sent nothing
	User     string `yaml:"user" takes:"imap"`          // whom to log in; default nobody
	Password string `yaml:"password_file" takes:"imap"` // file with the user's password alone
	Mailbox  string `yaml:"mailbox" takes:"imap"`       // what the user selects; default nothing

	// DNS
	Query     string `yaml:"query" takes:"dns"`      // name to ask for
	QueryType string `yaml:"query_type" takes:"dns"` // default A
	RCode     string `yaml:"rcode" takes:"dns"`      // default NOERROR
	Answer    string `yaml:"answer" takes:"dns"`     // data of a record that must be among the answers; default any

	Command []string `yaml:"command" takes:"exec"` // program and arguments; exit status 0 passes. For the mark of other types it sets SO_MARK to ANYCASTLE_PROBE_MARK itself
}

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	*c = Config{Type: "tcp", Interval: time.Second, Timeout: 500 * time.Millisecond, Fail: 2, Pass: 2}
}

// NeedsPort says whether the type cannot do without a port.
func (c *Config) NeedsPort() bool { return c.Type != "icmp" && c.Type != "exec" }

// equal says whether two configs ask for the same.
func (c *Config) equal(d *Config) bool { return c == d || reflect.DeepEqual(c, d) }

// Asks says what a probe asks of its target, whatever its pace, its thresholds and this machine's files are: it is the same
// for two machines that ask for the same.
func (c *Config) Asks() string {
	d := *c
	d.Interval, d.SlowInterval, d.Timeout, d.Fail, d.Pass, d.Window, d.CA, d.Password = 0, 0, 0, 0, 0, Window{}, "", ""
	var b strings.Builder
	v := reflect.ValueOf(d)
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			fmt.Fprintf(&b, "%s %#v\n", v.Type().Field(i).Name, v.Field(i))
		}
	}
	return b.String()
}

// secure says whether the probe speaks TLS.
func (c *Config) secure() bool { return c.Type == "tls" || c.Type == "https" || c.TLS != "" }

// serverName is the name that the certificate is compared with.
func (c *Config) serverName() string {
	if c.ServerName == "" && c.Type == "https" {
		return hostOf(c.Host)
	}
	return c.ServerName
}
