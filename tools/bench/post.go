package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	randv2 "math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// tags is how many tags the load is spread over.
const tags = 1000

func tag(i int) string { return fmt.Sprintf("bench_%c%c%c", 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26) }

// target is what is posted, and where.
type target struct {
	url    string
	bodies [][]byte
	// increments is how many one body holds.
	increments int
	// keyed gives each request an idempotency key of its own.
	keyed bool
}

func singleBodies() [][]byte {
	bodies := make([][]byte, tags)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, `{"name":%q,"value":%d}`, tag(i), 1+i%9)
	}
	return bodies
}

func batchBodies(n int) [][]byte {
	bodies := make([][]byte, 32)
	for i := range bodies {
		items := make([]string, n)
		for j := range items {
			items[j] = fmt.Sprintf(`{"name":%q,"value":%d}`, tag(randv2.N(tags)), 1+randv2.N(9)) //nolint:gosec // a load
		}
		bodies[i] = []byte(`{"increments":[` + strings.Join(items, ",") + `]}`)
	}
	return bodies
}

// result is one measurement.
type result struct {
	rate     float64 // increments a second, accepted
	elapsed  time.Duration
	counted  float64 // increments a second, until the last is in /stats
	p50, p99 time.Duration
}

var errStatus = errors.New("not answered 202")

// post posts on so many connections for so long. Anything but a 202 is an error. The client is fasthttp's, since net/http's
// would take a core for itself.
func post(ctx context.Context, to target, connections int, length time.Duration) (result, error) {
	address, err := url.Parse(to.url)
	if err != nil {
		return result{}, fmt.Errorf("post: %w", err)
	}
	client := fasthttp.HostClient{Addr: address.Host, MaxConns: connections, ReadTimeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	started := time.Now()
	end := started.Add(length)
	latencies := make([][]time.Duration, connections)
	faults := make([]error, connections, connections+1)
	var group sync.WaitGroup
	for i := range connections {
		group.Go(func() {
			request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(request)
			defer fasthttp.ReleaseResponse(response)
			request.SetRequestURI(to.url)
			request.Header.SetMethod(fasthttp.MethodPost)
			request.Header.SetContentType("application/json")
			key := []byte(rand.Text() + "-")
			for n := i; ctx.Err() == nil; n++ {
				request.SetBodyRaw(to.bodies[n%len(to.bodies)])
				if to.keyed {
					request.Header.SetBytesV("Idempotency-Key", strconv.AppendInt(key, int64(n), 10))
				}
				before := time.Now()
				if before.After(end) {
					return
				}
				if err := client.Do(request, response); err != nil {
					faults[i] = fmt.Errorf("post: %w", err)
					return
				}
				if response.StatusCode() != fasthttp.StatusAccepted {
					faults[i] = fmt.Errorf("%w: %d %s", errStatus, response.StatusCode(), response.Body())
					return
				}
				latencies[i] = append(latencies[i], time.Since(before))
			}
		})
	}
	group.Wait()
	elapsed := time.Since(started)
	if err := errors.Join(append(faults, ctx.Err())...); err != nil {
		return result{}, err
	}
	var all []time.Duration
	for _, some := range latencies {
		all = append(all, some...)
	}
	return result{
		rate: float64(len(all)*to.increments) / elapsed.Seconds(), elapsed: elapsed,
		p50: percentile(all, 50), p99: percentile(all, 99),
	}, nil
}
