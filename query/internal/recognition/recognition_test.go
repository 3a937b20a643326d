package recognition_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/pkg/store"
)

func TestRecognizesTheThirdContributionOnly(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3)
		w.store.contribute(w.t, 2, "ada", "bob")
		w.after(5 * time.Second)
		w.store.contribute(w.t, 1, "ada")
		w.after(time.Second, reached{"ada", 3})
		w.store.contribute(w.t, 1, "ada")
		w.after(time.Minute)
		w.settled()
	})
}

func TestRecognizesForEachTierPassedLowestFirst(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3, 10, 100)
		w.store.contribute(w.t, 12, "ada")
		w.after(time.Second, reached{"ada", 3}, reached{"ada", 10})
		w.store.contribute(w.t, 88, "ada")
		w.after(time.Second, reached{"ada", 100})
		w.after(time.Minute)
		w.settled()
		standing, err := w.store.Standing(w.t.Context(), "ada")
		if err != nil || standing.RecognizedTier != 100 || len(standing.Recognitions) != 3 {
			t.Errorf("standing = %+v, %v", standing, err)
		}
	})
}

func TestTiersAddedOrRemoved(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before, after []int64
		want          []reached
	}{
		"above":            {[]int64{3}, []int64{3, 5}, []reached{{"seven", 5}, {"twelve", 5}}},
		"several above":    {[]int64{3}, []int64{3, 5, 10}, []reached{{"seven", 5}, {"twelve", 5}, {"twelve", 10}}},
		"inserted":         {[]int64{3, 10}, []int64{3, 5, 10}, []reached{{"seven", 5}, {"twelve", 5}}},
		"below":            {[]int64{5}, []int64{2, 5}, []reached{{"four", 2}, {"seven", 2}, {"twelve", 2}}},
		"replaced":         {[]int64{3, 10}, []int64{5}, []reached{{"seven", 5}, {"twelve", 5}}},
		"highest replaced": {[]int64{3, 7}, []int64{3, 10}, []reached{{"twelve", 10}}},
		"removed":          {[]int64{3, 7}, []int64{3}, nil},
		"not reached":      {[]int64{3}, []int64{3, 100}, nil},
		"lowest removed":   {[]int64{3, 10}, []int64{10}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.store.contribute(w.t, 4, "four")
				w.store.contribute(w.t, 7, "seven")
				w.store.contribute(w.t, 12, "twelve")
				_, stop := w.start(tc.before...)
				time.Sleep(10 * time.Second)
				stop()
				w.events.take()

				_, stop = w.start(tc.after...)
				time.Sleep(10 * time.Second)
				got := w.events.take()
				for contributor := range map[string]bool{"four": true, "seven": true, "twelve": true} {
					var tiers []int64
					for _, r := range got {
						if r.Contributor == contributor {
							tiers = append(tiers, r.Tier)
						}
					}
					if !slices.IsSorted(tiers) {
						t.Errorf("%s was recognized for %v, want the lowest first", contributor, tiers)
					}
				}
				slices.SortFunc(got, func(a, b reached) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
				slices.SortFunc(tc.want, func(a, b reached) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
				if !slices.Equal(got, tc.want) {
					t.Errorf("recognized %v, want %v", got, tc.want)
				}
				stop()
				w.start(tc.after...) // which does nothing again
				w.after(2 * time.Hour)
				w.settled()
			})
		})
	}
}

// An instance with earlier settings skips an inserted tier during a rolling deployment: the second audit finds it.
func TestRecognizesForATierThatAnInstanceWithOlderSettingsSkipped(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3, 5, 10)
		time.Sleep(10 * time.Second) // past the audit at the start
		w.store.contribute(w.t, 12, "ada")
		for _, tier := range []int64{3, 10} {
			if err := w.store.Store.Recognize(w.t.Context(), store.Recognition{Contributor: "ada", Tier: tier, Contributions: 12}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second) // they are published
		w.events.take()
		w.after(time.Minute, reached{"ada", 5})
	})
}

func TestTwoInstancesPublishEachEventOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3, 5)
		w.start(3, 5)
		var want []reached
		for i := range 400 {
			id := fmt.Sprintf("c%03d", i)
			w.store.contribute(w.t, int64(1+i%6), id)
			if 1+i%6 >= 3 {
				want = append(want, reached{id, 3})
			}
			if 1+i%6 >= 5 {
				want = append(want, reached{id, 5})
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		got := w.events.take()
		slices.SortFunc(got, func(a, b reached) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		slices.SortFunc(want, func(a, b reached) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		if !slices.Equal(got, want) {
			t.Errorf("published %d events, want %d, each once", len(got), len(want))
		}
		w.settled()
	})
}

func TestEventsOfACrashedInstanceArePublishedOnce(t *testing.T) {
	bubble(t, func(w *world) {
		one, _ := w.start(3)
		w.start(3)
		time.Sleep(500 * time.Millisecond)
		w.store.contribute(w.t, 12, "ada", "bob")
		for _, r := range []store.Recognition{{Contributor: "ada", Tier: 10}, {Contributor: "ada", Tier: 3}, {Contributor: "bob", Tier: 3}} {
			if err := w.store.Store.Recognize(w.t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		w.after(9 * time.Second) // the crashed instance might still publish it
		if age := one.OldestPending(); age < 4*time.Second || age > 9*time.Second {
			t.Errorf("OldestPending() = %v after 9 s", age)
		}
		time.Sleep(7 * time.Second)
		got := w.events.take()
		if ada := slices.DeleteFunc(slices.Clone(got), func(r reached) bool { return r.Contributor != "ada" }); len(got) != 3 ||
			!slices.Equal(ada, []reached{{"ada", 3}, {"ada", 10}}) {
			t.Errorf("published %v, want three events, the lower tier first", got)
		}
		w.after(time.Hour)
		w.settled()
		if age := one.OldestPending(); age != 0 {
			t.Errorf("OldestPending() = %v with nothing pending", age)
		}
	})
}

// The reply to a commit is lost: the recognition exists and its creator does not know.
func TestRecognitionWhoseReplyWasLostIsPublishedOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3)
		time.Sleep(500 * time.Millisecond)
		w.store.steer(nil, func(call string) error {
			if call == "Recognize" {
				return errDown
			}
			return nil
		})
		w.store.contribute(w.t, 3, "ada")
		w.after(9 * time.Second)
		w.store.steer(nil, nil)
		w.after(7*time.Second, reached{"ada", 3})
		w.after(time.Hour)
		w.settled()
	})
}

func TestFailedPublishIsRetried(t *testing.T) {
	bubble(t, func(w *world) {
		r, _ := w.start(3)
		time.Sleep(500 * time.Millisecond)
		w.events.steer(func(context.Context) error { return errDown }, nil)
		w.store.contribute(w.t, 3, "ada")
		w.after(5 * time.Minute)
		if age := r.OldestPending(); age < 4*time.Minute {
			t.Errorf("OldestPending() = %v, want some five minutes", age)
		}
		if n := w.events.requests; n < 10 || n > 60 {
			t.Errorf("%d attempts to publish in five minutes", n)
		}
		w.events.steer(nil, nil)
		w.after(20*time.Second, reached{"ada", 3})
		w.after(time.Hour)
		w.settled()
		if lines := w.log.lines("warn"); len(lines) < 2 || len(lines) > 31 || !strings.Contains(lines[0], errDown.Error()) {
			t.Errorf("logged %q, want the first failure and a summary every ten seconds at most", lines)
		}
	})
}

func TestPublishedEventThatCannotBeMarkedIsNotPublishedAgain(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3)
		time.Sleep(500 * time.Millisecond)
		w.store.steer(failing("MarkSent"), nil)
		w.store.contribute(w.t, 3, "ada")
		w.after(time.Minute, reached{"ada", 3})
		w.store.steer(nil, nil)
		w.after(20 * time.Second)
		w.settled()
	})
}

// An instance that was too slow must not publish: another one may be doing so.
func TestSlowInstanceLeavesPublishingToTheSweep(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3)
		time.Sleep(500 * time.Millisecond)
		w.store.steer(nil, func(call string) error {
			if call == "Recognize" {
				time.Sleep(time.Minute) // the process stood still
			}
			return nil
		})
		w.store.contribute(w.t, 3, "ada")
		time.Sleep(5 * time.Second)
		w.store.steer(nil, nil)
		w.after(13*time.Second, reached{"ada", 3}) // by the sweep
		w.after(time.Hour)
		w.settled()
	})
}

// A publish that timed out may still arrive, and the topic then has it twice, which the id is for. But no attempt may last
// until another begins.
func TestHangingPublishTimesOutBeforeTheNextAttempt(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3)
		time.Sleep(500 * time.Millisecond)
		var last time.Time
		w.events.steer(func(ctx context.Context) error {
			if began := time.Now(); !last.IsZero() && began.Sub(last) < 2*time.Second {
				t.Errorf("an attempt began %v after the end of another", began.Sub(last))
			}
			<-ctx.Done()
			last = time.Now()
			return ctx.Err()
		}, nil)
		w.store.contribute(w.t, 3, "ada")
		w.after(5 * time.Minute)
		w.events.steer(nil, nil)
		w.after(20*time.Second, reached{"ada", 3})
	})
}

// The contributor was restored from before the recognition.
func TestRecognizedTierThatWasRestoredFromBeforeIsRaisedOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.store.contribute(w.t, 3, "ada")
		if err := w.store.Store.Recognize(w.t.Context(), store.Recognition{Contributor: "ada", Tier: 3}); err != nil {
			t.Fatal(err)
		}
		if err := w.store.MarkSent(w.t.Context(), []store.Recognition{{Contributor: "ada", Tier: 3}}); err != nil {
			t.Fatal(err)
		}
		restored := &fallenBack{steeredStore: w.store}
		_, stop := w.startOn(restored, 3)
		w.after(10 * time.Second)
		if raised, tried := w.store.count("Raise"), w.store.count("Recognize"); raised != 1 || tried != 2 {
			t.Errorf("raised %d times after %d attempts, want 1 after 2", raised, tried)
		}
		stop()
	})
}

// fallenBack is a store whose contributor has a recognized tier of 0 until it is raised.
type fallenBack struct {
	*steeredStore
}

func (s *fallenBack) Due(ctx context.Context, recognized, tier int64, limit int) ([]store.Contributor, error) {
	s.mu.Lock()
	raised := s.calls["Raise"] > 0
	s.mu.Unlock()
	if recognized == 0 && !raised {
		return []store.Contributor{{ID: "ada", Contributions: 3}}, nil
	}
	return s.steeredStore.Due(ctx, recognized, tier, limit)
}

// A contributor is deleted between being found and being recognized.
func TestDeletedContributorIsNotAFailure(t *testing.T) {
	bubble(t, func(w *world) {
		_, stop := w.startOn(&ghostly{w.store}, 3)
		w.after(10 * time.Second)
		if lines := w.log.lines("warn"); len(lines) != 0 {
			t.Errorf("logged %q", lines)
		}
		stop()
	})
}

// ghostly is a store that finds a contributor who does not exist.
type ghostly struct{ *steeredStore }

func (s *ghostly) Due(context.Context, int64, int64, int) ([]store.Contributor, error) {
	return []store.Contributor{{ID: "ghost", Contributions: 3}}, nil
}

func TestBacklogIsProcessedWithoutWaiting(t *testing.T) {
	bubble(t, func(w *world) {
		ids := make([]string, 2000)
		for i := range ids {
			ids[i] = fmt.Sprintf("c%04d", i)
		}
		w.store.contribute(w.t, 12, ids...)
		w.start(3, 10)
		time.Sleep(900 * time.Millisecond) // less than one interval
		if got := len(w.events.take()); got != 4000 {
			t.Errorf("%d events, want 4000", got)
		}
		if w.events.requests > 20 {
			t.Errorf("%d publish requests for 16 pages", w.events.requests)
		}
		w.settled()
	})
}

// With a slow store each contributor is still recognized once, by the instance that began it.
func TestSlowStoreIsGivenTime(t *testing.T) {
	for _, takes := range []time.Duration{100 * time.Millisecond, 700 * time.Millisecond, 2500 * time.Millisecond} {
		t.Run(takes.String(), func(t *testing.T) {
			bubble(t, func(w *world) {
				ids := make([]string, 300)
				for i := range ids {
					ids[i] = fmt.Sprintf("c%04d", i)
				}
				w.store.contribute(w.t, 3, ids...)
				w.store.steer(func(_ context.Context, call string) error {
					if call == "Recognize" {
						time.Sleep(takes)
					}
					return nil
				}, nil)
				w.start(3)
				time.Sleep(time.Minute)
				if got := len(w.events.take()); got != 300 {
					t.Errorf("%d events, want 300", got)
				}
				if got := w.store.count("Claim"); got != 0 {
					t.Errorf("%d pages were left to the sweep", got)
				}
				w.settled()
			})
		})
	}
}

func TestAuditWaitsForASlowStore(t *testing.T) {
	bubble(t, func(w *world) {
		ids := make([]string, 300)
		for i := range ids {
			ids[i] = fmt.Sprintf("c%04d", i)
		}
		w.store.contribute(w.t, 12, ids...)
		_, stop := w.start(3, 10)
		time.Sleep(5 * time.Second)
		stop()
		w.events.take()
		w.store.steer(func(_ context.Context, call string) error {
			if call == "Recognize" {
				time.Sleep(700 * time.Millisecond)
			}
			return nil
		}, nil)
		w.start(3, 5, 10)
		time.Sleep(time.Minute)
		if got := len(w.events.take()); got != 300 {
			t.Errorf("%d events, want 300", got)
		}
		w.settled()
	})
}

// A publish takes nearly as long as its timeout, and sweeps go on meanwhile.
func TestSlowTakeoverHappensOnce(t *testing.T) {
	bubble(t, func(w *world) {
		w.store.contribute(w.t, 12, "ada", "bob")
		for _, id := range []string{"ada", "bob"} {
			if err := w.store.Store.Recognize(w.t.Context(), store.Recognition{Contributor: id, Tier: 3}); err != nil {
				t.Fatal(err)
			}
		}
		w.events.steer(func(context.Context) error { time.Sleep(6500 * time.Millisecond); return nil }, nil)
		w.store.steer(nil, func(call string) error {
			if call == "Pending" {
				time.Sleep(100 * time.Millisecond) // both read before either claims
			}
			return nil
		})
		w.start(3)
		w.start(3)
		time.Sleep(2500 * time.Millisecond)
		w.start(3) // sweeps in between
		time.Sleep(time.Hour)
		if got := w.events.take(); len(got) != 2 {
			t.Errorf("published %v, want two events", got)
		}
		w.settled()
	})
}

func TestIdleInstanceReadsRarelyAndIsWokenByChanges(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3)
		time.Sleep(10 * time.Minute)
		w.store.count("Due")
		w.store.count("Pending")
		time.Sleep(10 * time.Minute)
		if due, pending := w.store.count("Due"), w.store.count("Pending"); due > 125 || pending > 125 {
			t.Errorf("%d and %d reads in ten idle minutes", due, pending)
		}
		time.Sleep(1100 * time.Millisecond) // in the middle of a wait
		w.store.contribute(w.t, 3, "ada")
		w.changes <- struct{}{}
		w.after(time.Millisecond, reached{"ada", 3})

		// While anything is counted it reads every second, even if no contributor reaches a tier.
		w.store.count("Due")
		for range 600 {
			w.changes <- struct{}{}
			time.Sleep(time.Second)
		}
		if due := w.store.count("Due"); due < 599 || due > 601 {
			t.Errorf("%d reads in 600 s", due)
		}
	})
}

func TestBacksOffAndLogsOncePerInterval(t *testing.T) {
	bubble(t, func(w *world) {
		w.start(3)
		w.store.steer(failing("Due", "Pending", "RecognizedTiers"), nil)
		time.Sleep(10 * time.Minute)
		w.changes <- struct{}{} // must not shorten the backoff
		if due, pending := w.store.count("Due"), w.store.count("Pending"); due > 150 || pending > 150 {
			t.Errorf("%d and %d reads in ten minutes", due, pending)
		}
		w.store.contribute(w.t, 3, "ada")
		w.store.steer(nil, nil)
		w.after(11*time.Second, reached{"ada", 3})
		time.Sleep(5 * time.Minute)
		lines, ends := w.log.lines(""), 0
		for _, line := range lines {
			if strings.Contains(line, "works again") {
				ends++
			}
		}
		if ends != 3 || len(lines) > 3*61+3 {
			t.Errorf("logged %d lines, want a summary every ten seconds at most and the ends of three outages:\n%s", len(lines), lines)
		}
	})
}

func TestStopFinishesWhatHasBegun(t *testing.T) {
	bubble(t, func(w *world) {
		_, stop := w.start(3)
		time.Sleep(500 * time.Millisecond)
		w.events.steer(func(context.Context) error { time.Sleep(time.Second); return nil }, nil)
		w.store.contribute(w.t, 3, "ada")
		time.Sleep(600 * time.Millisecond) // the publish is under way
		if took := stop(); took > time.Second {
			t.Errorf("the stop took %v", took)
		}
		w.store.contribute(w.t, 3, "bob")
		w.after(time.Minute, reached{"ada", 3})
		w.settled()
	})
}

func TestStopDoesNotWaitForHangingCalls(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(w *world){
		"finding":  func(w *world) { w.store.steer(hanging("Due"), nil) },
		"making":   func(w *world) { w.store.steer(hanging("Recognize"), nil) },
		"marking":  func(w *world) { w.store.steer(hanging("MarkSent"), nil) },
		"sweeping": func(w *world) { w.store.steer(hanging("Pending"), nil) },
		"claiming": func(w *world) { w.store.steer(hanging("Claim"), nil) },
		"auditing": func(w *world) { w.store.steer(hanging("RecognizedTiers"), nil) },
		"counting": func(w *world) { w.store.steer(hanging("CountRecognized"), nil) },
		"publishes": func(w *world) {
			w.events.steer(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				hang(w)
				w.store.contribute(w.t, 12, "ada")
				if err := w.store.Store.Recognize(w.t.Context(), store.Recognition{Contributor: "ada", Tier: 9}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(15 * time.Second)
				_, stop := w.start(3, 10)
				time.Sleep(500 * time.Millisecond)
				synctest.Wait()
				if took := stop(); took > 2*time.Second {
					t.Errorf("the stop took %v", took)
				}
			})
		})
	}
}

// Events that could not be marked are remembered, up to a limit.
func TestRecognitionPausesWhileTooManyEventsCannotBeMarked(t *testing.T) {
	bubble(t, func(w *world) {
		ids := make([]string, 3000)
		for i := range ids {
			ids[i] = fmt.Sprintf("c%04d", i)
		}
		w.store.contribute(w.t, 3, ids...)
		w.store.steer(failing("MarkSent"), nil)
		w.start(3)
		time.Sleep(5 * time.Minute)
		if got := len(w.events.take()); got < 2500 || got > 2750 {
			t.Errorf("%d events, want to stop at 2500", got)
		}
		w.store.steer(nil, nil)
		time.Sleep(time.Minute)
		if got := len(w.events.take()); got < 250 || got > 500 {
			t.Errorf("%d more events, want the rest of 3000", got)
		}
		w.settled()
	})
}

// A panic in one of its goroutines ends recognition with an error that has the stack, not the process.
func TestPanicStopsRecognitionWithAnError(t *testing.T) {
	t.Parallel()
	for _, broken := range []string{"Due", "Recognize", "Pending", "RecognizedTiers"} {
		t.Run(broken, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.store.contribute(w.t, 3, "ada")
				w.store.steer(func(_ context.Context, call string) error {
					if call == broken {
						panic("oh")
					}
					return nil
				}, nil)
				err := w.recognizer(w.store, 3).Run(w.t.Context())
				if err == nil || !strings.HasPrefix(err.Error(), "panic: oh\n\ngoroutine ") || !strings.Contains(err.Error(), "recognition.(*Recognizer)") {
					t.Errorf("Run() = %v", err)
				}
			})
		})
	}
}

// refusing refuses, permanently, to recognize one contributor, as Firestore does with a document that it cannot take.
type refusing struct {
	*steeredStore
	contributor string
}

func (s refusing) Recognize(ctx context.Context, r store.Recognition) error {
	if r.Contributor == s.contributor {
		return store.ErrRefused
	}
	return s.steeredStore.Recognize(ctx, r)
}

func TestContributorWhoCannotBeRecognizedDelaysNoOther(t *testing.T) {
	bubble(t, func(w *world) {
		w.store.contribute(w.t, 3, "cursed")
		w.startOn(refusing{w.store, "cursed"}, 3, 10)
		time.Sleep(10 * time.Minute)
		if lines := w.log.lines("warn"); len(lines) < 1 || len(lines) > 61 || !strings.Contains(lines[0], "cannot recognize a contributor") {
			t.Errorf("logged %d lines, want the first failure and a summary every ten seconds at most: %q", len(lines), lines[:min(1, len(lines))])
		}
		w.store.contribute(w.t, 10, "ada")
		w.changes <- struct{}{}
		w.after(time.Second, reached{"ada", 3}, reached{"ada", 10})
	})
}

func TestFailureOfOneStepDoesNotStopTheOthers(t *testing.T) {
	bubble(t, func(w *world) {
		w.store.contribute(w.t, 12, "ada")
		w.startOn(failingStep{w.store}, 3, 10)
		w.after(time.Minute + time.Second/2) // between two sweeps, so that none finds it late below
		if err := w.store.Store.Recognize(w.t.Context(), store.Recognition{Contributor: "ada", Tier: 3, Contributions: 12}); err != nil {
			t.Fatal(err)
		}
		w.after(11*time.Second, reached{"ada", 10})
	})
}

// failingStep is a store that cannot find the contributors who are due for their first tier.
type failingStep struct{ *steeredStore }

func (s failingStep) Due(ctx context.Context, recognized, tier int64, limit int) ([]store.Contributor, error) {
	if recognized == 0 {
		return nil, errDown
	}
	return s.steeredStore.Due(ctx, recognized, tier, limit)
}

// While instances of the old and the new settings run side by side, the old one recognizes a contributor for a tier that
// the new one does not know. The contributor then reaches the new tier.
func TestTierReplacedInARollingDeploymentIsFoundWithinAMinute(t *testing.T) {
	bubble(t, func(w *world) {
		_, stop := w.start(3)
		w.start(5) // its first audit finds no tier 3
		time.Sleep(5 * time.Second)
		w.store.contribute(w.t, 3, "ada")
		time.Sleep(5 * time.Second)
		stop()
		w.events.take()
		w.store.contribute(w.t, 2, "ada")
		w.after(time.Minute, reached{"ada", 5})
	})
}

// As many recognitions as contributors does not mean that each contributor has one.
func TestOrphanedRecognitionDoesNotHideAMissingOne(t *testing.T) {
	bubble(t, func(w *world) {
		w.store.contribute(w.t, 12, "ada", "gone")
		for _, r := range []store.Recognition{{Contributor: "ada", Tier: 10}, {Contributor: "gone", Tier: 10}, {Contributor: "gone", Tier: 5}} {
			r.Contributions = 12
			if err := w.store.Store.Recognize(w.t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		w.startOn(withoutOne{w.store}, 5, 10)
		time.Sleep(time.Minute)
		if got := w.events.take(); !slices.Contains(got, reached{"ada", 5}) {
			t.Errorf("published %v, want ada for 5 among them", got)
		}
	})
}

// withoutOne is a store in which one contributor's document was deleted.
type withoutOne struct{ *steeredStore }

func (s withoutOne) CountRecognized(ctx context.Context, tier int64) (contributors, recognitions int64, err error) {
	contributors, recognitions, err = s.steeredStore.CountRecognized(ctx, tier)
	return contributors - 1, recognitions, err
}
