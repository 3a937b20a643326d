//go:build unix

package partition

import (
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accrue/accrue/aggregator/internal/delivery"
	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/message"
)

// A backlog of single contributions by as many people takes CPU time in proportion to its length.
func TestABacklogTakesLinearTime(t *testing.T) {
	perMessage := func(n int) time.Duration {
		least := time.Hour
		for range 3 {
			synctest.Test(t, func(t *testing.T) {
				s := &settler{}
				all := start(t, &ledger{}, s, 1<<30)
				backlog := make([]*delivery.Delivery, n)
				for i := range backlog {
					var b message.Builder
					b.AddContribution(fmt.Sprintf("person-%07d", i), message.Key{})
					d, err := delivery.Decode(&broker.Delivery{Message: broker.Message{Data: b.Encode(message.Publisher{1}, 1, uint64(i+1), time.Now())}})
					if err != nil {
						t.Fatal(err)
					}
					backlog[i] = d
				}
				before := cpu(t)
				all.Add(1, backlog)
				time.Sleep(time.Second)
				synctest.Wait()
				if settled, _ := s.counts(); settled != n {
					t.Fatalf("%d of %d messages are settled", settled, n)
				}
				least = min(least, (cpu(t)-before)/time.Duration(n))
			})
		}
		return least
	}
	few, many := perMessage(10_000), perMessage(80_000)
	t.Logf("%v a message of 10,000, %v of 80,000", few, many)
	if many > 3*few {
		t.Errorf("a message of a backlog of 80,000 takes %v, one of 10,000 %v", many, few)
	}
}

// cpu returns the CPU time that the process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
