package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// kindOfFault is a kind of fault. Every run of TestChaos must reach each of them.
type kindOfFault string

const (
	delayed     kindOfFault = "delay"
	reset       kindOfFault = "connections reset"
	lostReply   kindOfFault = "reply lost after the effect"
	late        kindOfFault = "call in effect after its sender gave up"
	twice       kindOfFault = "call made twice"
	hung        kindOfFault = "call without an answer"
	swallowing  kindOfFault = "connections that swallow bytes"
	refused     kindOfFault = "document refused"
	killed      kindOfFault = "SIGKILL"
	terminated  kindOfFault = "SIGTERM"
	zombie      kindOfFault = "SIGSTOP for longer than a lease"
	paused      kindOfFault = "SIGSTOP for seconds"
	pubSubDown  kindOfFault = "Pub/Sub frozen"
	storeDown   kindOfFault = "Firestore frozen"
	divided     kindOfFault = "PARTITIONS changed"
	undecodable kindOfFault = "undecodable message"
	repeated    kindOfFault = "accepted post repeated with its key"
)

// answeredSo stands for the kinds of answeredWith.
const answeredSo kindOfFault = "answer"

// answeredWith is the kind of a call that the proxy answers with a code, without any effect.
func answeredWith(code codes.Code) kindOfFault { return kindOfFault("answer " + code.String()) }

func kindsOfFaults() []kindOfFault {
	all := []kindOfFault{
		delayed, reset, lostReply, late, twice, hung, swallowing, refused, killed, terminated, zombie, paused, pubSubDown, storeDown, divided,
		undecodable, repeated,
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		all = append(all, answeredWith(code))
	}
	return all
}

// faultCounts counts what a run has exercised.
type faultCounts struct {
	mu     sync.Mutex
	counts map[kindOfFault]int
}

func (f *faultCounts) add(k kindOfFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[k]++
}

// report is a table of what a run has exercised, and the kinds that it has not.
func (f *faultCounts) report() (table string, missing []kindOfFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, k := range kindsOfFaults() {
		fmt.Fprintf(&b, "  %-44s %8d\n", k, f.counts[k])
		if f.counts[k] == 0 {
			missing = append(missing, k)
		}
	}
	return b.String(), missing
}

// refusable is the tag whose document the store refuses as long as there are faults.
const refusable = "refusable"

// link is the path between one service and one emulator: a TCP proxy, which resets connections and swallows bytes, and behind it a
// gRPC proxy, which picks a fault for each call. The same seed, service, method and number of the call give the same fault.
type link struct {
	tcp    *swallower
	seed   uint64
	counts *faultCounts
	healed *atomic.Bool
	// later are the calls that are made after their sender was answered.
	later sync.WaitGroup

	mu    sync.Mutex
	calls map[string]uint64
	// code is that of the last answer without an effect. They take turns.
	code codes.Code
}

func newLink(t *testing.T, emulator string, seed uint64, counts *faultCounts, healed *atomic.Bool) *link {
	t.Helper()
	l := &link{seed: seed, counts: counts, healed: healed, calls: make(map[string]uint64), code: codes.Code(seed % 16)}
	l.tcp = startSwallower(t, startHandlingProxy(t, emulator, l.handle).host)
	t.Cleanup(l.later.Wait)
	return l
}

func hashOf(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return h.Sum64()
}

// callFault is a fault of a call.
type callFault struct {
	kind  kindOfFault
	code  codes.Code
	delay time.Duration
}

// unknowns are the codes after which a client cannot know whether its call had an effect.
var unknowns = []codes.Code{codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.Aborted, codes.Internal, codes.Unavailable}

// pick picks the fault of the next call of a method. The calls by which the services create the emulator's topics and subscriptions
// are only delayed: an answer that a subscription does not exist, which is a lie, lets them replace it with all its messages.
func (l *link) pick(method string, request []byte) callFault {
	if l.healed.Load() {
		return callFault{}
	}
	method = method[strings.LastIndexByte(method, '/')+1:]
	l.mu.Lock()
	l.calls[method]++
	random := rand.New(rand.NewPCG(l.seed, hashOf(method)+l.calls[method]))
	l.mu.Unlock()
	creates := strings.HasSuffix(method, "Topic") || strings.HasSuffix(method, "Subscription")
	if !creates && method == "Commit" && bytes.Contains(request, []byte("/documents/tags/t-"+refusable)) {
		return callFault{kind: refused, code: codes.InvalidArgument}
	}
	n := random.IntN(1000)
	for _, o := range []struct {
		odds  int
		fault callFault
	}{
		{40, callFault{kind: delayed, delay: below(random, 300*time.Millisecond)}},
		{3, callFault{kind: delayed, delay: below(random, 4*time.Second)}},
		{20, callFault{kind: answeredSo}},
		{10, callFault{kind: lostReply, code: unknowns[n%len(unknowns)]}},
		{8, callFault{kind: twice}},
		{6, callFault{kind: late, delay: below(random, 15*time.Second)}},
		{4, callFault{kind: hung}},
		{1, callFault{kind: reset}},
	} {
		if n < o.odds {
			if creates && o.fault.kind != delayed {
				return callFault{}
			}
			if o.fault.kind == answeredSo {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.code = 1 + l.code%codes.Unauthenticated
				return callFault{kind: answeredWith(l.code), code: l.code}
			}
			return o.fault
		}
		n -= o.odds
	}
	return callFault{}
}

// ignore drops a reply.
func ignore([]byte) error { return nil }

// handle makes a call upstream, with its fault.
func (l *link) handle(ctx context.Context, c *rpc) error {
	pass := func(reply []byte) error { return c.client.SendMsg(&reply) }
	fault := l.pick(c.method, c.request)
	if fault.kind != "" {
		l.counts.add(fault.kind)
	}
	switch fault.kind {
	case "":
		return c.exchange(ctx, pass)
	case delayed:
		select {
		case <-time.After(fault.delay):
			return c.exchange(ctx, pass)
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	case lostReply:
		if err := c.exchange(ctx, ignore); err != nil {
			return err
		}
		return status.Error(fault.code, "the proxy lost the reply")
	case twice:
		if err := c.exchange(ctx, ignore); err != nil {
			return err
		}
		return c.exchange(ctx, pass)
	case late:
		l.later.Go(func() {
			time.Sleep(fault.delay)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			_ = c.exchange(ctx, ignore) // its sender has given up
		})
		return status.Error(codes.Unavailable, "the proxy makes the call later")
	case hung:
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	case reset:
		l.tcp.reset()
		return status.Error(codes.Unavailable, "the proxy has reset the connection")
	default:
		return status.Error(fault.code, "the proxy refuses the call")
	}
}
