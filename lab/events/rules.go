package events

import (
	"log/slog"
	"slices"
	"strings"
	"unicode"
)

// rule says what a message of a role means. {name} in a text stands for an attribute of the line.
type rule struct {
	msg   string
	has   string // the attribute that the line must have; empty: none. It tells messages of two roles apart
	kind  Kind
	label string
	text  string
	// important: nil is no, or the values of attributes of which one makes it so; a nil list in it is any line.
	important []when
}

// when is an attribute and the values that it may have; no values: any.
type when struct {
	attr   string
	values []string
}

var always = []when{{}}

func whenNew(values ...string) when { return when{"new", values} }
func whenOld(values ...string) when { return when{"old", values} }

// rules gives the messages that are events. Others are one only as a warning or an error.
func rules() []rule { return slices.Concat(routing(), balancing(), selecting(), storing(), living()) }

func routing() []rule {
	return []rule{
		{msg: "announced", kind: Announced, label: "announces {prefix}", text: "announces {prefix} for {source}: {sent}", important: always},
		{msg: "withdrawn", kind: Withdrawn, label: "withdraws {prefix}", text: "withdraws {prefix}", important: always},
		{msg: "rung changed", kind: Path, label: "changes {prefix}", text: "announces {prefix} anew: {old} → {new}", important: always},
		{msg: "kernel route set", kind: Route, label: "routes {prefix}", text: "route to {prefix}: {old} → {new}"},
		{msg: "kernel route removed", kind: Route, label: "no route {prefix}", text: "route to {prefix}: {old} → none"},
		{msg: "session up", kind: Session, label: "BGP to {peer} up", text: "BGP session to {peer} ({address}): {old} → {new}", important: always},
		{msg: "session down", kind: Session, label: "BGP to {peer} down", text: "BGP session to {peer} ({address}): {old} → {new} ({cause})", important: always},
		{msg: "BFD up", kind: BFD, label: "BFD to {peer} up", text: "BFD to {peer}: {old} → {new} ({cause})", important: always},
		{msg: "BFD init", kind: BFD, label: "BFD to {peer} begins", text: "BFD to {peer}: {old} → {new} ({cause})"},
		{msg: "BFD down", kind: BFD, label: "BFD to {peer} down", text: "BFD to {peer}: {old} → {new} ({cause})", important: always},
		{msg: "BFD admin-down", kind: BFD, label: "BFD to {peer} held down", text: "BFD to {peer}: {old} → {new} ({cause})"},
	}
}

func balancing() []rule {
	const moved = "real {real} of farm {farm}: {old} → {new} ({cause})"
	return []rule{
		{msg: "real changed", kind: Real, label: "{real} {new}", text: moved,
			important: []when{whenNew("failed", "draining", "suspended", "gone"), whenOld("failed", "draining", "suspended")}},
		{msg: "weight changed", kind: Real, label: "{real} weighs {new}", text: "weight of real {real} of farm {farm}: {old} → {new} ({cause})"},
		{msg: "order", has: "real", kind: Order, label: "order: {real} {new}", text: "order for real {real} of farm {farm}: {old} → {new} ({cause})", important: always},
		{msg: "address fit to be announced", kind: VIP, label: "{vip} fit", text: "address {vip} is fit to be announced: {cause}", important: always},
		{msg: "address not fit to be announced", kind: VIP, label: "{vip} unfit", text: "address {vip} is not fit to be announced: {cause}", important: always},
		{msg: "VIP moved on the ladder", kind: VIP, label: "{vip} {new}", text: "VIP {vip}: {old} → {new} ({cause})"},
		{msg: "VIP needs a look", kind: VIP, label: "{vip} needs a look", text: "VIP {vip} needs a look: {cause}"},
		{msg: "VIP needs no look any more", kind: VIP, label: "{vip} is well", text: "VIP {vip} needs no look any more"},
		{msg: "agent speaks against the real", kind: Real, label: "agent: {real}", text: "agent speaks against real {real} of farm {farm}: {cause}"},
		{msg: "probe state changed", has: "real", kind: Probe, label: "probe of {real} {new}", text: "probe {probe} of real {real} of farm {farm}: {old} → {new} ({cause})"},
		{msg: "member joined", kind: Member, label: "mesh: {member} joins", text: "member {member} ({peer}) joins the mesh", important: always},
		{msg: "member left", kind: Member, label: "mesh: {member} leaves", text: "member {member} ({peer}) leaves the mesh", important: always},
		{msg: "member lost", kind: Member, label: "mesh: {member} lost", text: "member {member} ({peer}) is lost to the mesh", important: always},
	}
}

func selecting() []rule {
	return []rule{
		{msg: "answer moved", kind: Answer, label: "{answer} {new}", text: "answer {answer}: {old} → {new} ({cause})",
			important: []when{whenNew("out", "serving", "hot", "draining", "suspended")}},
		{msg: "rule changed its answer", kind: Answer, label: "{rule} is {new}", text: "rule {rule} answers {new}, before {old} ({cause})", important: always},
		{msg: "rule has no answer that works", kind: Answer, label: "{rule}: none works", text: "rule {rule} has no answer that works, gives {new} ({cause})", important: always},
		{msg: "probe state changed", has: "answer", kind: Probe, label: "probe of {answer} {new}", text: "probe {probe} of answer {answer} at {address}: {new} ({cause})"},
		{msg: "VIP changed at a balancer", kind: VIP, label: "{balancer}: {vip} {new}",
			text: "balancer {balancer} says of VIP {vip}: {old} → {new}, route {route}, {in_service} in service ({cause})"},
		{msg: "balancer is heard", kind: Session, label: "hears {balancer}", text: "balancer {balancer} is heard, with {vips} VIPs"},
		{msg: "balancer is not heard; what it said last ages", kind: Session, label: "{balancer} not heard", text: "balancer {balancer} is not heard: {err}", important: always},
	}
}

func storing() []rule {
	return []rule{
		{msg: "replica leads", kind: LUN, label: "leads {lun}", text: "elected: leads {lun} in term {term}", important: always},
		{msg: "replica does not lead any more", kind: LUN, label: "leads {lun} no more", text: "does not lead {lun} any more, term {term}, after {after}", important: always},
		{msg: "replica changed state", kind: LUN, label: "{lun} {new}", text: "replica of {lun}: {old} → {new} ({why})",
			important: []when{whenNew("active", "failed"), whenOld("active")}},
		{msg: "handed over", kind: LUN, label: "hands {lun} to {peer}", text: "hands {lun} over to {peer}, term {term}", important: always},
		{msg: "the witness hands over", kind: LUN, label: "hands {lun} to {peer}", text: "the witness hands {lun} over to {peer}, term {term}", important: always},
		{msg: "lun moves", kind: LUN, label: "moves {lun}", text: "{lun} moves from {from} to {to} ({why}) {err}", important: always},
		{msg: "exposed: what is acknowledged from now on is at one site only", kind: LUN, label: "{lun} exposed",
			text: "{lun} is exposed: what is acknowledged from now on is at one site only", important: always},
		{msg: "no longer exposed: the other site has all", kind: LUN, label: "{lun} not exposed", text: "{lun} is exposed no longer: the other site has all, {operations} operations", important: always},
		{msg: "replica is unfit", kind: LUN, label: "{lun} unfit: {reason}", text: "replica of {lun} is unfit ({reason}): {why}", important: always},
		{msg: "replica is fit again", kind: LUN, label: "{lun} fit: {reason}", text: "replica of {lun} is fit again ({reason}), was: {old}", important: always},
		{msg: "members changed", kind: LUN, label: "{lun}: members", text: "members of {lun} changed: {change} {peer}"},
		{msg: "identity taken", kind: LUN, label: "takes {lun}", text: "takes the identity of {lun}: {addresses}", important: always},
		{msg: "identity dropped", kind: LUN, label: "drops {lun}", text: "drops the identity of {lun}", important: always},
		{msg: "store changed state", kind: Store, label: "{lun} {new}", text: "store of {lun}: {old} → {new} {err}"},
	}
}

func living() []rule {
	return []rule{
		{msg: "started", has: "pid", kind: Process, label: "{role} started", text: "{role} has started", important: always},
		{msg: "stopped", kind: Process, label: "{role} stopped", text: "{role} has stopped", important: always},
		{msg: "process ended", kind: Process, label: "{command} {how}", text: "{command} ended: {how}", important: always},
		{msg: "child ended; starting it again", kind: Process, label: "{child} ended", text: "{child} ended: {err}; it is started again in {in}", important: always},
		{msg: "role changed state", kind: Process, label: "{role} {new}", text: "{role}: {old} → {new} ({why})",
			important: []when{whenNew("draining", "drained"), whenOld("draining", "drained")}},
		{msg: "order", has: "drained", kind: Order, label: "order: drained {drained}", text: "order, drained {drained}: {why}", important: always},
		{msg: "reloaded", kind: Process, label: "reloaded", text: "{role} has reloaded its config"},
		{msg: "reload refused; the old config stays", kind: Process, label: "reload refused", text: "{role} refuses a config: {err}", important: always},
	}
}

// meaning finds what a line means. It is none for most.
func meaning(all map[string][]rule, node string, l line) (Event, bool) {
	e := Event{Time: l.time, Node: node, Role: l.attrs["role"]}
	for _, r := range all[l.msg] {
		if _, has := l.attrs[r.has]; r.has != "" && !has {
			continue
		}
		e.Kind, e.Text, e.Label = r.kind, fill(r.text, l.attrs, maxText), fill(r.label, l.attrs, maxLabel)
		e.Important = slices.ContainsFunc(r.important, func(w when) bool {
			return w.attr == "" || slices.Contains(w.values, l.attrs[w.attr])
		})
		if e.Kind == LUN && l.attrs["reason"] == "disk" {
			e.Kind = Disk
		}
		return e, true
	}
	if l.level < slog.LevelWarn {
		return Event{}, false
	}
	e.Kind, e.Label, e.Text = Alarm, clean(l.msg, maxLabel), l.msg
	for _, key := range []string{"target", "lun", "vip", "peer", "cause", "why", "err"} {
		if v := l.attrs[key]; v != "" {
			e.Text += ", " + key + " " + v
		}
	}
	e.Text, e.Important = clean(e.Text, maxText), l.level >= slog.LevelError
	return e, true
}

// The most characters of a text and of a label.
const (
	maxText  = 400
	maxLabel = 40
)

// fill puts a line's attributes in place of their names, and leaves out the brackets and colons before one that is empty.
func fill(text string, attrs map[string]string, most int) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(before)
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			break
		}
		b.WriteString(attrs[name])
		text = after
	}
	return clean(strings.TrimRight(strings.ReplaceAll(b.String(), " ()", ""), ": "), most)
}

// clean makes one line of a text, of at most so many characters.
func clean(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsGraphic(r)
	}), " ")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
