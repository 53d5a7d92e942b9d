package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"anycastle/gss"
	"anycastle/gss/decide"
	"anycastle/internal/daemon"

	"github.com/spf13/cobra"
)

// answerOrderFlags are those of every order to a site selector.
type answerOrderFlags struct {
	runDir, why string
	start       time.Duration
	wait        bool
	poll        time.Duration // 0: drainPoll
}

const answerOrderLong = `

The order survives a restart and stands until another one about the same answer, or the same site, is given; show
answer-order lists what stands. Given again it keeps its times; a new reason takes the place of the old one. Of an order
about an answer and one about its site the one that asks for more counts: suspend before drain before activate.`

// newAnswerOrders gives `answer NAME` of drain, suspend and activate, and `site SITE` of suspend, which only a site selector knows.
func newAnswerOrders(e env) (drain, suspend, activate, suspendSite *cobra.Command) {
	drain = newAnswerOrder(e, decide.KindDrain, "answer NAME", "Have an answer not be given any more, once what was given has expired",
		`Shortens the TTL so that all that was given of the answer expires together, and then gives it to nobody, unless nothing
else works. With --wait it says how far it is, and ends with status 0 when no resolver that honours TTLs can hold the answer
any more, of whatever site selector of the mesh, with 1 when another order takes its place or it is interrupted; the order
stands then. What one that is not heard gives is not known, so it is waited for; forget vantage is for one that is gone.`)
	suspend = newAnswerOrder(e, decide.KindSuspend, "answer NAME", "Have an answer not be given from now on",
		`Gives the answer to nobody from now on. Resolvers keep what they have for as long as its TTL says.`)
	activate = newAnswerOrder(e, decide.KindActivate, "answer NAME", "Undo an order about an answer",
		`Has health decide again, unless there is an order about the answer's site. It also ends a wait to fail back. An order
about an answer that is in the config no more is removed.`)
	suspendSite = newAnswerOrder(e, decide.KindSuspend, "site SITE", "Have no answer of a site be given from now on",
		`Gives the answers of the site to nobody from now on. Resolvers keep what they have for as long as its TTL says.`)
	return drain, suspend, activate, suspendSite
}

func newAnswerOrder(e env, kind decide.Kind, use, short, long string) *cobra.Command {
	f := &answerOrderFlags{}
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long + answerOrderLong, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := gss.Order{Kind: kind, Answer: args[0], Why: f.why}
			if strings.HasPrefix(use, "site") {
				o.Answer, o.Site = "", args[0]
			}
			return f.give(cmd.Context(), e, o)
		},
	}
	cmd.Flags().StringVar(&f.runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd.Flags().StringVar(&f.why, "why", "", "the reason, to be shown with the answer")
	if kind == decide.KindDrain {
		cmd.Flags().DurationVar(&f.start, "start", 0, "the answer is given for so long, from now; until what was given before has expired unless that is longer")
		cmd.Flags().BoolVar(&f.wait, "wait", false, "end when no resolver can hold the answer any more")
	}
	return cmd
}

func newForget(e env) *cobra.Command {
	var runDir string
	vantage := &cobra.Command{
		Use: "vantage NAME", Short: "Have a site selector that is gone for good count no longer",
		Long: `Has no site selector of the mesh count another that is not heard any more: one that crashed and was replaced under another
name would be missed for a week, and a few of those leave no majority. Refused while it is heard; one that comes back counts
again. show vantage lists those that count.`,
		Example: "  anycastle forget vantage gss-old",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := gss.Forget{Vantage: args[0], By: orderedBy()}
			if err := daemon.Post(cmd.Context(), runDir, "gss", "/v1/forget", f, &f); err != nil {
				return err
			}
			fmt.Fprintf(e.stdout, "vantage %s: forgotten\n", f.Vantage)
			return nil
		},
	}
	vantage.Flags().StringVar(&runDir, "run-dir", daemon.DefaultRunDir, "folder of the status sockets")
	cmd := &cobra.Command{Use: "forget", Short: "Have what is gone for good count no longer", Args: cobra.NoArgs}
	cmd.AddCommand(vantage)
	return cmd
}

// give gives the order to the site selector.
func (f *answerOrderFlags) give(ctx context.Context, e env, o gss.Order) error {
	if f.start < 0 {
		return usageError{fmt.Errorf("--start %v: want a time from now", f.start)}
	}
	o.By, o.Start = orderedBy(), deadlineIn(f.start)
	var kept gss.Taken
	if err := daemon.Post(ctx, f.runDir, "gss", "/v1/answer-order", o, &kept); err != nil {
		return err
	}
	if kept.Stood {
		fmt.Fprintf(e.stdout, "%s: %s stands already, for %s\n", orderAbout(kept.Order), kept.Kind, ago(kept.Since))
	} else {
		sayOrdered(e, orderAbout(kept.Order), string(kept.Kind), time.Time{})
	}
	for _, text := range kept.NotInForce {
		fmt.Fprintf(e.stderr, "not in force: %s\n", text)
	}
	if len(kept.Alone) > 0 {
		fmt.Fprintf(e.stderr, "nothing else works for the rules %s: %s\n", words(kept.Alone), map[decide.Kind]string{
			decide.KindDrain:   "their clients are given it on until something does",
			decide.KindSuspend: "their clients are given what does not work until something does",
		}[kept.Kind])
	}
	if !f.wait {
		return nil
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	return f.await(ctx, e, kept.Order)
}

// await prints how far the drain is whenever that changes, until no resolver can hold an answer.
func (f *answerOrderFlags) await(ctx context.Context, e env, o gss.Order) error {
	tick := time.NewTicker(cmp.Or(f.poll, drainPoll))
	defer tick.Stop()
	said, there := map[string]string{}, map[string]string{}
	for {
		var orders []gss.OrderStatus
		if err := daemon.Get(ctx, f.runDir, "gss", "/v1/answer-order", &orders); err != nil && ctx.Err() == nil {
			return err
		}
		if ctx.Err() != nil {
			return interrupted(orderAbout(o))
		}
		is, ok := findOrder(orders, o)
		if !ok {
			return fmt.Errorf("another order has taken the place of this one about %s; `anycastle show answer-order` lists what stands", orderAbout(o))
		}
		if is.Void {
			return errors.New(isVoid(o))
		}
		done := true
		for _, a := range is.Answers {
			done = done && a.Done
			stage := fmt.Sprint(a.Done, a.Only) // times alone are no news
			if said[a.Answer] != stage {
				fmt.Fprintln(e.stdout, drainOf(a))
				said[a.Answer] = stage
				if len(a.Only) > 0 {
					fmt.Fprintln(e.stdout, "this will not end until another answer of these rules works; Ctrl-C leaves the order standing")
				}
			}
		}
		for _, v := range is.Others {
			done = done && v.Done
			stage := fmt.Sprint(v.Done, v.Counts, v.Taken, v.Given, givenOn(v))
			if there[v.Vantage] != stage {
				fmt.Fprintln(e.stdout, drainAt(v))
				there[v.Vantage] = stage
			}
		}
		if done && len(is.Answers) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func findOrder(orders []gss.OrderStatus, o gss.Order) (gss.OrderStatus, bool) {
	for _, is := range orders {
		if is.Answer == o.Answer && is.Site == o.Site {
			return is, is.Since.Equal(o.Since)
		}
	}
	return gss.OrderStatus{}, false
}
