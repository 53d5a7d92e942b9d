package milter

import (
	"strings"
	"testing"
	"time"

	"anycastle/internal/config"
)

// milterFile is the section of a node file that has a list of milters.
type milterFile struct {
	Milters []Config `yaml:"milters"`
}

func TestConfig(t *testing.T) {
	const good = `smtp:
  milters:
    - {name: rspamd, addr: "127.0.0.1:11332"}
    - {name: clamav, addr: "unix:/run/clamav/clamav-milter.ctl", timeout: 2m, on_failure: accept}
`
	read := func(text string) (milterFile, error) {
		doc, err := config.Parse("node.yml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var f milterFile
		at := doc.Decode("smtp", &f)
		Validate(f.Milters, at.Key("milters"))
		return f, doc.Err()
	}
	f, err := read(good)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Config{Name: "rspamd", Addr: "127.0.0.1:11332", Timeout: time.Minute, OnFailure: Tempfail}); f.Milters[0] != want {
		t.Errorf("defaults: %+v", f.Milters[0])
	}
	if network, addr, _ := f.Milters[1].target(); network != "unix" || addr != "/run/clamav/clamav-milter.ctl" {
		t.Errorf("dials %s %s", network, addr)
	}
	for _, tc := range []struct{ name, old, new, want string }{
		{"no name", "name: clamav, ", "", `node.yml:4: smtp.milters[1].name: "" is no name of a milter`},
		{"odd name", "name: rspamd", `name: "a b"`, `node.yml:3: smtp.milters[0].name: "a b" is no name of a milter`},
		{"same name", "name: clamav", "name: rspamd", `node.yml:4: smtp.milters[1].name: two milters are called "rspamd"`},
		{"no address", `, addr: "127.0.0.1:11332"`, "", `node.yml:3: smtp.milters[0].addr: "" is not where a milter listens`},
		{"no port", "127.0.0.1:11332", "127.0.0.1", `node.yml:3: smtp.milters[0].addr: "127.0.0.1" is not where`},
		{"port 0", "127.0.0.1:11332", "127.0.0.1:0", `node.yml:3: smtp.milters[0].addr: "127.0.0.1:0" is not where`},
		{"libmilter's form", "127.0.0.1:11332", "inet:11332@127.0.0.1", `node.yml:3: smtp.milters[0].addr: "inet:11332@127.0.0.1" is not where`},
		{"path that is none", "unix:/run", "unix:run", `node.yml:4: smtp.milters[1].addr: "unix:run/clamav/clamav-milter.ctl" is not where`},
		{"short time-out", "timeout: 2m", "timeout: 1ms", "node.yml:4: smtp.milters[1].timeout: 1ms must be from 1s to 5m0s"},
		{"long time-out", "timeout: 2m", "timeout: 6m", "node.yml:4: smtp.milters[1].timeout: 6m0s must be from 1s to 5m0s"},
		{"policy", "on_failure: accept", "on_failure: reject", `node.yml:4: smtp.milters[1].on_failure: "reject" must be tempfail or accept`},
		{
			"time-outs together", "    - {name: clamav", "    - {name: x, addr: \"h:1\", timeout: 5m}\n    - {name: clamav",
			"",
		},
		{
			"time-outs too long together", "    - {name: clamav", "    - {name: x, addr: \"h:1\", timeout: 5m}\n    - {name: y, addr: \"h:1\"}\n    - {name: clamav",
			"node.yml:2: smtp.milters: the time-outs make 9m0s together",
		},
	} {
		text := strings.Replace(good, tc.old, tc.new, 1)
		if text == good {
			t.Fatalf("%s: nothing to replace", tc.name)
		}
		_, err := read(text)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}
