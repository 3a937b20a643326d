// Package firestore counts with Firestore as its documentation shows it: an increment of a field for each post, in one document
// for each tag or in one of several shards of it.
package firestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/firestore"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/accrue/accrue/pkg/message"
)

const (
	counters = "counters"
	shards   = "shards"
	total    = "total"
	// prefix begins the id of a tag's document, since ids of the form __x__ are reserved.
	prefix = "t-"
	// connections is enough for some hundred posts at once: Google's servers take 100 calls on each.
	connections = 4
	// addTimeout bounds the tries of a post.
	addTimeout = 25 * time.Second
	// The pauses between tries are those of the client's own retries.
	firstPause, lastPause, pauseGrowth = 100 * time.Millisecond, 10 * time.Second, 1.3
)

// Options configures a counter.
type Options struct {
	// Host is the address of an emulator.
	Host    string
	Project string
	// Shards is the number of documents of each tag. With 1 there is one document without shards.
	Shards int
}

// Counter counts in documents.
type Counter struct {
	client *firestore.Client
	shards int
}

var errNoShards = errors.New("a counter needs a shard")

// New returns a counter in the emulator at a host.
func New(ctx context.Context, o Options) (*Counter, error) {
	if o.Shards < 1 {
		return nil, errNoShards
	}
	client, err := firestore.NewClient(ctx, o.Project, option.WithEndpoint(o.Host), option.WithoutAuthentication(),
		option.WithGRPCConnectionPool(connections), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		return nil, fmt.Errorf("connect to firestore: %w", err)
	}
	return &Counter{client, o.Shards}, nil
}

// Close closes the connections.
func (c *Counter) Close() error { return c.client.Close() }

// Add implements serve.Counter. A write that meets others at its document is aborted, which has counted nothing, and tried again.
// The client does so by itself for transactions only, and five times.
func (c *Counter) Add(ctx context.Context, increments []message.Increment) error {
	ctx, cancel := context.WithTimeout(ctx, addTimeout)
	defer cancel()
	write := func(ctx context.Context, _ gax.CallSettings) error { return c.write(ctx, increments) }
	if err := gax.Invoke(ctx, write, gax.WithRetry(func() gax.Retryer {
		return gax.OnCodes([]codes.Code{codes.Aborted}, gax.Backoff{Initial: firstPause, Max: lastPause, Multiplier: pauseGrowth})
	})); err != nil {
		return fmt.Errorf("add: %w", err)
	}
	return nil
}

// write adds one increment by one write, and several in a transaction.
func (c *Counter) write(ctx context.Context, increments []message.Increment) error {
	if len(increments) == 1 {
		_, err := c.document(increments[0].Tag).Set(ctx, add(int64(increments[0].Value)), firestore.MergeAll)
		return err
	}
	sums := make(map[string]int64)
	for _, i := range increments {
		sums[i.Tag] += int64(i.Value)
	}
	return c.client.RunTransaction(ctx, func(_ context.Context, t *firestore.Transaction) error {
		for tag, sum := range sums {
			if err := t.Set(c.document(tag), add(sum), firestore.MergeAll); err != nil {
				return err
			}
		}
		return nil
	})
}

// add returns what adds to a document, and creates it if it is missing.
func add(value int64) map[string]any { return map[string]any{total: firestore.Increment(value)} }

// document returns the document of a tag, or a random one of its shards.
func (c *Counter) document(tag string) *firestore.DocumentRef {
	document := c.client.Collection(counters).Doc(prefix + tag)
	if c.shards == 1 {
		return document
	}
	return document.Collection(shards).Doc(strconv.Itoa(rand.IntN(c.shards))) //nolint:gosec // to spread writes
}

// Totals implements serve.Counter.
func (c *Counter) Totals(ctx context.Context) (map[string]int64, error) {
	query := c.client.Collection(counters).Query
	if c.shards > 1 {
		query = c.client.CollectionGroup(shards).Query
	}
	documents, err := query.Documents(ctx).GetAll()
	if err != nil {
		return nil, fmt.Errorf("read totals: %w", err)
	}
	totals := make(map[string]int64)
	for _, d := range documents {
		of := d.Ref
		if c.shards > 1 {
			of = d.Ref.Parent.Parent
		}
		value, err := d.DataAt(total)
		if err != nil {
			return nil, fmt.Errorf("read totals: %w", err)
		}
		n, ok := value.(int64)
		if !ok {
			return nil, fmt.Errorf("read totals: %s is %v", d.Ref.Path, value)
		}
		totals[strings.TrimPrefix(of.ID, prefix)] += n
	}
	return totals, nil
}
