package real

import "testing"

func TestParseLoad(t *testing.T) {
	for text, want := range map[string]float64{"3.34 1.19 0.57 6/146 13435\n": 3.34, "0.00 0.00 0.00 1/1 1": 0, "": -1, "x 1": -1, "-1 0": -1, "NaN 0": -1, "Inf": -1} {
		got, err := parseLoad([]byte(text))
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestParseCPUs(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0-3": 4, "0-3,8,10-11": 7, "": 0, "3-0": 0, "a": 0, "0-": 0, "0-99999999": 0} {
		got, err := parseCPUs(list)
		if (err != nil) != (want == 0) || got != want {
			t.Errorf("%q: %d, %v, want %d", list, got, err, want)
		}
	}
}

const netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPHPHits\nTcpExt: 0 7 9 12\nIpExt: InNoRoutes\nIpExt: 1\n"

func TestParseNetstat(t *testing.T) {
	for text, want := range map[string]listenDrops{
		netstat: {7, 9},
		"IpExt: InNoRoutes\nIpExt: 1\n" + netstat: {7, 9},
		"":                                   {},
		"TcpExt: ListenOverflows\nTcpExt: 1": {},
		"TcpExt: ListenOverflows ListenDrops\nTcpExt: 1":    {},
		"TcpExt: ListenOverflows ListenDrops\nTcpExt: 1 -1": {},
	} {
		got, err := parseNetstat(text)
		if (err != nil) != (want == listenDrops{}) || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
}

// TestFiguresOfThisMachine reads the real files.
func TestFiguresOfThisMachine(t *testing.T) {
	if load, err := hostLoad(); err != nil || load < 0 {
		t.Errorf("load %v, %v", load, err)
	}
	if _, err := readListenDrops(); err != nil {
		t.Error(err)
	}
}

func FuzzFigures(f *testing.F) {
	f.Add("3.34 1.19", "0-3,8", netstat)
	f.Fuzz(func(t *testing.T, load, cpus, stat string) {
		if l, err := parseLoad([]byte(load)); err == nil && l < 0 {
			t.Errorf("load %v of %q", l, load)
		}
		if n, err := parseCPUs(cpus); err == nil && n < 1 {
			t.Errorf("%d CPUs of %q", n, cpus)
		}
		parseNetstat(stat)
	})
}
