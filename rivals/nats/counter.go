// Package nats counts with the counters of NATS JetStream (ADR-49), in a server that is part of the process. Each increment
// is a message with its value; the server answers it with the new total.
package nats

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/counters"

	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/rivals/serve"
)

const (
	stream  = "COUNTERS"
	prefix  = "counters."
	subject = prefix + ">"

	startTimeout = 30 * time.Second
	// maxPending is the number of messages without an answer after which the client waits: below the server's own limit of
	// 10,000, after which it refuses them.
	maxPending = 8000
	stallWait  = 10 * time.Second
	// maxSubjects is less than what one read of last messages may ask for.
	maxSubjects = 500
)

// Options configures a counter.
type Options struct {
	// Folder is where the server keeps its stream.
	Folder string
	// Sync makes the server fsync each message before it answers.
	Sync bool
	// Exact gives each message the key of its increment as an id, which the server counts once.
	Exact bool
}

// Counter counts in a stream.
type Counter struct {
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	exact  bool
}

var errStart = errors.New("the server does not start")

// New starts a server and returns a counter in it.
func New(ctx context.Context, o Options) (*Counter, error) {
	embedded, err := server.NewServer(&server.Options{
		JetStream: true, StoreDir: o.Folder, SyncAlways: o.Sync, DontListen: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, fmt.Errorf("start nats: %w", err)
	}
	c := &Counter{server: embedded, exact: o.Exact}
	if err := c.start(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("start nats: %w", err)
	}
	return c, nil
}

func (c *Counter) start(ctx context.Context) error {
	c.server.Start()
	if !c.server.ReadyForConnections(startTimeout) {
		return errStart
	}
	var err error
	if c.conn, err = nats.Connect("", nats.InProcessServer(c.server)); err != nil {
		return err
	}
	if c.js, err = jetstream.New(c.conn, jetstream.WithPublishAsyncMaxPending(maxPending)); err != nil {
		return err
	}
	c.stream, err = c.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: stream, Subjects: []string{subject}, AllowMsgCounter: true, AllowDirect: true, Duplicates: serve.Horizon,
	})
	return err
}

// Close ends the connection and the server.
func (c *Counter) Close() {
	if c.conn != nil {
		c.conn.Close()
	}
	c.server.Shutdown()
	c.server.WaitForShutdown()
}

// Add implements serve.Counter. It publishes the increments of a post at once and waits for all their answers. An atomic batch
// would be counted as a whole, but the server keeps it in a file of its own first, which takes ten times as long.
func (c *Counter) Add(ctx context.Context, increments []message.Increment) error {
	answers := make([]jetstream.PubAckFuture, len(increments))
	for i := range increments {
		m := nats.NewMsg(prefix + increments[i].Tag)
		m.Header.Set(counters.CounterIncrementHeader, strconv.Itoa(int(increments[i].Value)))
		if c.exact {
			m.Header.Set(nats.MsgIdHdr, hex.EncodeToString(increments[i].Key[:]))
		}
		answer, err := c.js.PublishMsgAsync(m, jetstream.WithStallWait(stallWait))
		if err != nil {
			return fmt.Errorf("add: %w", err)
		}
		answers[i] = answer
	}
	for _, answer := range answers {
		select {
		case <-answer.Ok():
		case err := <-answer.Err():
			return fmt.Errorf("add: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("add: %w", ctx.Err())
		}
	}
	return nil
}

// Totals implements serve.Counter.
func (c *Counter) Totals(ctx context.Context) (map[string]int64, error) {
	info, err := c.stream.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return nil, fmt.Errorf("read tags: %w", err)
	}
	counter, err := counters.GetCounter(ctx, c.js, stream)
	if err != nil {
		return nil, fmt.Errorf("read totals: %w", err)
	}
	totals := make(map[string]int64, len(info.State.Subjects))
	some := make([]string, 0, maxSubjects)
	read := func() error {
		for entry, err := range counter.GetMultiple(ctx, some) {
			if err != nil {
				return fmt.Errorf("read totals: %w", err)
			}
			totals[strings.TrimPrefix(entry.Subject, prefix)] = entry.Value.Int64()
		}
		some = some[:0]
		return nil
	}
	for tag := range info.State.Subjects {
		if some = append(some, tag); len(some) == maxSubjects {
			if err := read(); err != nil {
				return nil, err
			}
		}
	}
	if len(some) > 0 {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return totals, nil
}
