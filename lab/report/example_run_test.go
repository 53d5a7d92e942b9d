package report

import (
	stdflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anycastle/lab/client"
	"anycastle/lab/score"
)

var keep = stdflag.String("keep", "", "folder that keeps the report of the example")

var zero = time.Date(2026, 11, 29, 20, 30, 0, 0, time.UTC)

// at is so many milliseconds after the example began.
func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

// example is a run of three windows, with the client's events and the nodes' logs.
func example(t *testing.T) score.Run {
	t.Helper()
	const killed, back, cut, end = 5_000, 15_000, 25_000, 45_000
	promise := func(text string) score.Promise {
		p, err := score.ParsePromise(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	l := score.Lab{
		Topology: "two-site", Resolver: "unbound 1.17", Up: 21_300 * time.Millisecond, Memory: 1_300 << 20, Logs: t.TempDir(),
		Windows: []score.Window{
			{Fault: "real killed", Scenario: "real-killed", From: at(killed), To: at(back), Promise: promise("vip 1s, name 1s, lost 0"),
				Marks: []score.Mark{{At: at(killed + 1), Text: "kill east-mx1"}}},
			{Fault: "real killed: way back", Scenario: "real-killed", Back: true, From: at(back), To: at(cut), Promise: promise("vip 0, broken 0, lost 0"),
				Marks: []score.Mark{{At: at(back + 1), Text: "start east-mx1"}}},
			{Fault: "site cut silently", Scenario: "site-cut", From: at(cut), To: at(end), Promise: promise("vip 1s, name 8s, delivery 5s, lost 0"),
				Marks: []score.Mark{{At: at(cut + 2), Text: "cut site east"}}, TookOver: "mx1.west, mx2.west"},
		},
	}
	for ms := 0; ms < end; ms += 10 {
		l.Events = append(l.Events, probe(client.KindVIP, ms, 4, ms%20 == 0 && ms >= killed && ms < killed+330, ms >= cut && ms < cut+1040))
		if ms%100 == 0 {
			for _, service := range []string{client.ServiceSubmission, client.ServiceIMAP} {
				e := probe(client.KindVIPs, ms, 6, false, ms >= cut && ms < cut+1000)
				e.Service = service
				l.Events = append(l.Events, e)
			}
			l.Events = append(l.Events, probe(client.KindName, ms, 9, ms >= killed+100 && ms < killed+400 && ms%200 == 0, ms >= cut && ms < cut+5200))
		}
	}
	for i := range 40 {
		id := fmt.Sprint(i)
		l.Events = append(l.Events, client.Event{Kind: client.KindHeld, ID: id, OK: true, Start: at(i), End: at(i + 5)})
		if i%2 == 0 {
			l.Events = append(l.Events, broken(client.KindHeld, id, killed+i, killed+i+3), again(client.KindHeld, id, killed+100+10*i))
		}
		l.Events = append(l.Events, broken(client.KindHeld, id, cut+i, cut+1100+i), again(client.KindHeld, id, cut+1200+9*i),
			client.Event{Kind: client.KindIdle, ID: id, OK: true, Start: at(i), End: at(i + 8)}, broken(client.KindIdle, id, cut+20*i, cut+2100), again(client.KindIdle, id, cut+3200+20*i))
	}
	for i, to := range []string{"alice", "bob", "carol", "dave"} {
		l.Events = append(l.Events, letters(client.KindMail, to, i*220, end, cut, i%2 == 0)...)
		l.Events = append(l.Events, letters(client.KindSubmit, to, i*130, end, cut, i%2 == 0)...)
	}
	l.Rows = score.Rows(l.Topology, l.Windows, l.Events)
	logs(t, l.Logs, killed, back, cut)
	return score.Run{Name: "lab", Began: zero, Took: 26 * time.Minute, Labs: []score.Lab{l}}
}

func probe(kind string, ms, took int, refused, lost bool) client.Event {
	e := client.Event{Kind: kind, Start: at(ms), End: at(ms + took), OK: !refused && !lost, Server: "mx2.east"}
	switch {
	case refused:
		e.Err = "dial tcp 203.0.113.25:25: connect: connection refused"
	case lost:
		e.End, e.Err = at(ms+900), fmt.Sprintf("dial tcp 192.0.2.1:%d->203.0.113.25:25: i/o timeout", 40_000+ms%9_999)
	}
	return e
}

func broken(kind, id string, from, to int) client.Event {
	return client.Event{Kind: kind, ID: id, Start: at(from), End: at(to), Reconnect: true, Err: "read tcp 192.0.2.1:" + id + "123->203.0.113.25:25: connection reset by peer"}
}

func again(kind, id string, ms int) client.Event {
	return client.Event{Kind: kind, ID: id, OK: true, Start: at(ms), End: at(ms + 6)}
}

// letters are the mails for one mailbox, two a second; one that the cut hits waits for another site.
func letters(kind, to string, from, end, cut int, hit bool) (list []client.Event) {
	for ms := from; ms < end; ms += 500 {
		e := client.Event{Kind: kind, To: to, ID: fmt.Sprint(to, ms), Start: at(ms), End: at(ms + 45), OK: true}
		if hit && ms >= cut && ms < cut+500 {
			e.End, e.OK, e.Err = at(ms+1500), false, "451 4.4.1 store does not answer"
			list = append(list, e)
			e.Start, e.End, e.OK, e.Err = at(ms+1600), at(ms+3400), true, ""
			ms += 3000
		}
		list = append(list, e)
	}
	return list
}

// logs writes what the nodes of the example say.
func logs(t *testing.T, dir string, killed, back, cut int) {
	t.Helper()
	lines := map[string][]string{}
	say := func(node string, ms int, text string) {
		lines[node] = append(lines[node], "time="+at(ms).Format("2006-01-02T15:04:05.000Z")+" level=INFO "+text)
	}
	say("east-mx1", killed+2, `msg="process ended" role=lab command=anycastle how=killed`)
	for i, lb := range []string{"east-lb1", "east-lb2"} {
		say(lb, killed+210+10*i, `msg="probe state changed" role=lb farm=smtp real=mx1 probe=tcp old=passing new=failing cause="connect: connection refused"`)
		say(lb, killed+310+10*i, `msg="real changed" role=lb farm=smtp real=mx1 old=active new=failed cause="tcp 203.0.113.25:25: connect: connection refused"`)
		say(lb, back+650+13*i, `msg="real changed" role=lb farm=smtp real=mx1 old=failed new=joining cause="it came into service"`)
	}
	for i, role := range []string{"real", "smtp", "supervisor"} {
		say("east-mx1", back+120+20*i, "msg=started role="+role+" pid=7 socket=/run/x.sock")
	}
	for i, isp := range []string{"ispa", "ispb"} {
		for j, core := range []string{"core1", "core2"} {
			say(isp, cut+152+3*i+5*j, `msg="BFD down" role=rhi peer=east-`+core+` old=up new=down cause="nothing heard for 150ms"`)
			say(isp, cut+153+3*i+5*j, `msg="session down" role=rhi peer=east-`+core+` address=192.0.2.21 old=established new=idle cause="BFD is down"`)
		}
		for _, vip := range []string{"25", "87", "143"} {
			say(isp, cut+155+3*i, `msg="kernel route set" role=rhi prefix=203.0.113.`+vip+`/32 old=[192.0.2.24] new=[192.0.2.25]`)
		}
	}
	say("west-lb1", cut+4100, `msg="member lost" role=lb member=east-lb1 peer=198.51.100.1:7947`)
	say("west-lb2", cut+4180, `msg="member lost" role=lb member=east-lb1 peer=198.51.100.1:7947`)
	say("west-gss", cut+820, `msg="balancer is not heard; what it said last ages" role=gss balancer=east-lb1 err="it says nothing for 3s"`)
	say("west-gss", cut+1320, `msg="answer moved" role=gss answer=smtp-east old=serving new=out cause="fails from west-gss, witness"`)
	say("west-gss", cut+1321, `msg="rule changed its answer" role=gss rule=smtp old=[smtp-east] new=[smtp-west] basis=health generation=7 cause="clause 1"`)
	say("west-store1", cut+1710, `msg="replica leads" role=store lun=lun-east1 term=9`)
	say("west-store1", cut+1722, `msg="identity taken" role=store lun=lun-east1 addresses=[203.0.113.201/32] term=9`)
	say("west-store1", cut+1725, `msg="replica changed state" role=store lun=lun-east1 old=following new=active why=elected`)
	say("west-store1", cut+1730, `msg=announced role=store prefix=203.0.113.201/32 source=health sent=announced`)
	say("west-store1", cut+1900, `msg="exposed: what is acknowledged from now on is at one site only" role=store lun=lun-east1 index=77`)
	for node, text := range lines {
		if err := os.WriteFile(filepath.Join(dir, node+".log"), []byte(strings.Join(text, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// written gives the folder of the example's report.
func written(t *testing.T) string {
	t.Helper()
	dir := *keep
	if dir == "" {
		dir = t.TempDir()
	}
	if err := Write(example(t), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}
