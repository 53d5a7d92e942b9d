package probe

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseAgent(t *testing.T) {
	plain := Advice{Weight: 100}
	busy := Advice{40, AdminDrain, "down (disk)"}
	for name, tc := range map[string]struct {
		line string
		from Advice
		want Advice
		err  string
	}{
		"up":                     {"up", busy, Advice{40, AdminDrain, ""}, ""},
		"up with a weight":       {"up 75%", busy, Advice{75, AdminDrain, ""}, ""},
		"weight alone":           {"75%", busy, Advice{75, AdminDrain, "down (disk)"}, ""},
		"weight of nothing":      {"0%", plain, Advice{0, "", ""}, ""},
		"more than all":          {"1000%", plain, Advice{1000, "", ""}, ""},
		"ready":                  {"ready", busy, Advice{40, AdminReady, "down (disk)"}, ""},
		"all at once":            {"\tUP,ready, 100% maxconn:30", busy, Advice{100, AdminReady, ""}, ""},
		"drain":                  {"drain", plain, Advice{100, AdminDrain, ""}, ""},
		"maint":                  {"maint", plain, Advice{100, AdminMaint, ""}, ""},
		"down":                   {"down", plain, Advice{100, "", "down"}, ""},
		"down with a reason":     {"down disk full", plain, Advice{100, "", "down (disk full)"}, ""},
		"down as HAProxy has it": {"down#disk full", plain, Advice{100, "", "down (disk full)"}, ""},
		"down and drain":         {"down drain 10%", plain, Advice{10, AdminDrain, "down"}, ""},
		"fail with words":        {"fail, maint # no disk, drain", plain, Advice{100, AdminMaint, "fail (no disk, drain)"}, ""},
		"failed":                 {"failed", plain, Advice{100, "", "failed"}, ""},
		"stopped":                {"stopped", plain, Advice{100, "", "stopped"}, ""},
		"the last word counts":   {"down up drain ready", plain, Advice{100, AdminReady, ""}, ""},
		"escapes":                {"down \x1b[2J\xff", plain, Advice{100, "", `down (\x1b[2J\xff)`}, ""},
		"nothing":                {"", plain, plain, "the agent says nothing"},
		"a comment alone":        {" # x", plain, plain, "the agent says nothing"},
		"garbage":                {"up 75% or so", plain, plain, `"or" is nothing that an agent says`},
		"too much":               {"1001%", plain, plain, "the agent's weight 1001% is more than 1000%"},
		"negative":               {"-1%", plain, plain, `"-1%" is nothing that an agent says`},
		"huge":                   {"99999999999999999999%", plain, plain, `"99999999999999999999%" is nothing that an agent says`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseAgent(tc.line, tc.from)
			if (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
				t.Fatalf("error is %v, want %q", err, tc.err)
			}
			if got != tc.want {
				t.Errorf("%q after %+v gives %+v, want %+v", tc.line, tc.from, got, tc.want)
			}
		})
	}
}

func TestReadAgent(t *testing.T) {
	for in, want := range map[string]string{"up\n": "up", "up\r\ndown\n": "up", "up": "up", "\n": "", strings.Repeat("x", maxAgentLine-1) + "\n": strings.Repeat("x", maxAgentLine-1)} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in)),
			"end with the data": iotest.DataErrReader(strings.NewReader(in))} {
			if got, err := readAgent(r); got != want || err != nil {
				t.Errorf("%.20q %s is read as %.20q, %v", in, name, got, err)
			}
		}
	}
	if _, err := readAgent(strings.NewReader("")); err == nil {
		t.Error("an agent that says nothing is believed")
	}
}

func TestAgentCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		says, want string
		advice     Advice
	}{
		"up":      {"up 75% drain\n", "", Advice{75, AdminDrain, ""}},
		"down":    {"down disk full\r\n", "agent says down (disk full)", Advice{100, "", "down (disk full)"}},
		"garbage": {"75% x\n", `"x" is nothing that an agent says`, Advice{100, "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, func(c net.Conn) { io.WriteString(c, tc.says); io.Copy(io.Discard, c) })
			cfg := Config{Type: "agent-check", Timeout: long}
			said, err := try(t.Context(), t, cfg, addr)
			wants(t, err, cfg, addr, tc.want)
			if said != tc.advice {
				t.Errorf("advice is %+v, want %+v", said, tc.advice)
			}
		})
	}
}

func FuzzAgent(f *testing.F) {
	for _, seed := range []string{"up\n", "down disk full\n", "up 75%\n", "drain,ready maint\tstopped fail\n", "failed#x y", "maxconn:9 0%", "\x00\xff\n", "%\n", "#\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		line, err := readAgent(strings.NewReader(string(in)))
		if err != nil {
			return
		}
		before := Advice{Weight: 100}
		said, err := parseAgent(line, before)
		if err != nil {
			if said.Weight > maxWeight || len(failed(err).Error()) > maxReason {
				t.Errorf("%q gives %+v, %v", in, said, err)
			}
			return
		}
		if said.Weight < 0 || said.Weight > maxWeight {
			t.Errorf("%q gives weight %d", in, said.Weight)
		}
		if strings.ContainsFunc(said.Down, unprintable) || len(said.Down) > maxReason+20 {
			t.Errorf("%q gives %q", in, said.Down)
		}
		switch said.Admin {
		case AdminNone, AdminReady, AdminDrain, AdminMaint:
		default:
			t.Errorf("%q gives the word %q", in, said.Admin)
		}
		if again, err := parseAgent(line, said); err != nil || again != said {
			t.Errorf("%q said twice gives %+v, then %+v, %v", in, said, again, err)
		}
	})
}
