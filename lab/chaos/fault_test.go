package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"
)

// kind is one of the faults of the issue.
type kind string

const (
	killed     kind = "kill -9"
	stopped    kind = "SIGSTOP"
	partition  kind = "partition"
	oneWay     kind = "one-way partition"
	diskFull   kind = "disk full"
	fsyncError kind = "fsync error"
	truncated  kind = "file truncated"
	bitFlipped kind = "bit flipped"
	clockJump  kind = "clock jump"
	siteCut    kind = "site cut"
	witnessCut kind = "witness cut"
	twoAtOnce  kind = "two at once"
)

// fault is something that breaks now and is healed after a time.
type fault struct {
	kind   kind
	what   string        // it happens to, for the reader
	busy   []string      // what no other fault may touch meanwhile: processes, disks, the clock
	ruins  bool          // data is destroyed
	length time.Duration // until it is healed
	strike func() error
	heal   func() error
}

// draw makes a fault of a kind with a random target and length.
func (c *chaos) draw(k kind) fault {
	f := fault{kind: k}
	switch k {
	case killed:
		c.drawKill(&f)
	case stopped:
		c.drawStop(&f)
	case partition, oneWay:
		c.drawPartition(&f)
	case diskFull, fsyncError:
		c.drawDisk(&f)
	case truncated, bitFlipped:
		c.drawDamage(&f)
	case clockJump:
		c.drawClock(&f)
	case siteCut:
		site := []string{"east", "west"}[c.rnd.IntN(2)]
		f.what, f.length = site, c.seconds(3, 10)
		f.strike = func() error { return c.cutSite(site, true) }
		f.heal = func() error { return c.cutSite(site, false) }
	case witnessCut:
		f.what, f.length = witness, c.seconds(3, 15)
		f.strike = func() error { return c.cutWitness(true) }
		f.heal = func() error { return c.cutWitness(false) }
	}
	return f
}

// seconds gives a random time within bounds.
func (c *chaos) seconds(from, to float64) time.Duration {
	return time.Duration((from + c.rnd.Float64()*(to-from)) * float64(time.Second))
}

// target gives a store: half of the times the active one of a LUN.
func (c *chaos) target() string {
	l := luns()[c.rnd.IntN(2)]
	list := stores("east")
	name := list[c.rnd.IntN(len(list))]
	if active := c.watch.active(l.name); active != "" && c.rnd.IntN(2) == 0 {
		name = active
	}
	return name
}

func (c *chaos) drawKill(f *fault) {
	role := c.target() + "-store"
	switch c.rnd.IntN(8) { // now and then not a store
	case 0:
		role = witness + "-witness"
	case 1:
		role = []string{"east", "west"}[c.rnd.IntN(2)] + "-front-" + []string{"smtp", "imap"}[c.rnd.IntN(2)]
	}
	p := c.w.roles[role]
	f.what, f.busy, f.length = role, []string{p.host.name}, c.seconds(1, 8)
	f.strike = func() error { p.kill(); return nil }
	f.heal = p.start
}

func (c *chaos) drawStop(f *fault) {
	p := c.w.roles[c.target()+"-store"]
	f.what, f.busy, f.length = p.host.name, []string{p.host.name}, c.seconds(3, 15)
	if c.rnd.IntN(8) == 0 {
		f.length = 60 * time.Second
	}
	f.strike = func() error { p.signal(syscall.SIGSTOP); return nil }
	f.heal = func() error { p.signal(syscall.SIGCONT); return nil }
}

// drawPartition parts two hosts, or a host and all others.
func (c *chaos) drawPartition(f *fault) {
	a := c.w.hosts[c.target()]
	f.length = c.seconds(2, 10)
	if c.rnd.IntN(3) == 0 {
		in, out := a, c.w.hosts[core(a.site)] // which of the two is deaf
		deaf := map[*host]drop{in: {link: "eth1"}, out: {link: a.name}}
		f.what = a.name + " and all others"
		if f.kind == oneWay {
			gone := []*host{in, out}[c.rnd.IntN(2)]
			delete(deaf, gone)
			f.what += fmt.Sprintf(", one way (it hears: %v)", gone == in)
		}
		c.deafen(f, deaf)
		return
	}
	peers := append(stores("east"), witness, "east-front", "west-front")
	b := a
	for b == a {
		b = c.w.hosts[peers[c.rnd.IntN(len(peers))]]
	}
	deaf := map[*host]drop{a: {from: b.addr}, b: {from: a.addr}}
	f.what = a.name + " and " + b.name
	if f.kind == oneWay {
		gone := []*host{a, b}[c.rnd.IntN(2)]
		delete(deaf, gone)
		f.what += ", which only " + gone.name + " hears across"
	}
	c.deafen(f, deaf)
}

func (c *chaos) deafen(f *fault, deaf map[*host]drop) {
	set := func(lost bool) (err error) {
		for h, d := range deaf {
			err = errors.Join(err, h.lose(lost, d))
		}
		return err
	}
	f.strike = func() error { return set(true) }
	f.heal = func() error { return set(false) }
}

// cutSite parts a site from everything outside it.
func (c *chaos) cutSite(site string, cut bool) error {
	err := c.w.hosts[core(site)].lose(cut, drop{link: dcLink}, drop{link: witness}, drop{link: "clients"})
	return errors.Join(err,
		c.w.hosts[core(other(site))].lose(cut, drop{link: dcLink}),
		c.w.hosts[witness].lose(cut, drop{link: site}),
		c.w.hosts["clients"].lose(cut, drop{link: site}))
}

func (c *chaos) cutWitness(cut bool) error {
	err := c.w.hosts[witness].lose(cut, drop{link: "east"}, drop{link: "west"})
	return errors.Join(err, c.w.hosts[core("east")].lose(cut, drop{link: witness}), c.w.hosts[core("west")].lose(cut, drop{link: witness}))
}

// drawDisk fills a store's disk, or has it fail.
func (c *chaos) drawDisk(f *fault) {
	name := c.target()
	d, p := c.w.disks[name], c.w.roles[name+"-store"]
	f.what, f.busy, f.length = name, []string{name}, c.seconds(3, 10)
	if f.kind == diskFull {
		f.strike, f.heal = d.fill, d.free
		return
	}
	f.ruins = true // what was written and not yet on disk is gone
	f.strike = func() error { return d.fail(true) }
	f.heal = func() error {
		p.kill()
		return errors.Join(d.repair(), p.start())
	}
}

// drawDamage kills a store, damages one of its files, and starts it again.
func (c *chaos) drawDamage(f *fault) {
	name := c.target()
	p, rnd := c.w.roles[name+"-store"], rand.New(rand.NewPCG(c.rnd.Uint64(), 0))
	f.what, f.busy, f.length, f.ruins = name, []string{name}, c.seconds(1, 3), true
	how := truncate
	if f.kind == bitFlipped {
		how = flip
	}
	f.strike = func() error {
		p.kill()
		file, err := damage(c.w.disks[name].at, rnd, how)
		c.say("%s: %s", f.kind, strings.TrimPrefix(file, c.w.dir))
		return err
	}
	f.heal = p.start
}

// drawClock sets the clock of the machine, by minutes or hours, forth or back.
func (c *chaos) drawClock(f *fault) {
	by := time.Duration(1+c.rnd.IntN(600)) * time.Minute
	if c.rnd.IntN(2) == 0 {
		by = -by
	}
	f.what, f.busy, f.length = fmt.Sprintf("the machine's clock by %v", by), []string{"clock"}, c.seconds(2, 6)
	f.strike = func() error { return c.clock.jump(by) }
	f.heal = c.clock.restore
}
