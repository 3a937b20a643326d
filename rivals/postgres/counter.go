// Package postgres counts with PostgreSQL: the posts that wait are committed together, in one transaction that keeps their keys
// and adds to a row for each tag. It is exact.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/accrue/accrue/pkg/message"
)

const (
	// committers is the number of transactions under way: while one waits for the disk, the next is prepared.
	committers = 2
	// commitTimeout bounds a transaction.
	commitTimeout = 5 * time.Second
)

// schema has room on the pages of totals, so that PostgreSQL updates rows in place. Keys are not removed here; with a date and
// partitions by hour they would be.
const schema = `
CREATE TABLE IF NOT EXISTS totals (tag text PRIMARY KEY, total bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS posts (key uuid PRIMARY KEY)`

const (
	keep = `INSERT INTO posts SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING RETURNING key`
	add  = `INSERT INTO totals SELECT unnest($1::text[]), unnest($2::bigint[])
ON CONFLICT (tag) DO UPDATE SET total = totals.total + excluded.total`
)

// Counter counts in a table.
type Counter struct {
	pool *pgxpool.Pool

	mu      sync.Mutex
	open    *group // what the next transaction takes
	waiting chan struct{}
}

// group is the posts of one transaction.
type group struct {
	posts map[message.Key][]message.Increment
	done  chan struct{} // closed when err is set
	err   error
}

// New returns a counter in the database whose socket is in folder, and creates its tables.
func New(ctx context.Context, folder string) (*Counter, error) {
	config, err := pgxpool.ParseConfig("host=" + folder + " user=postgres dbname=postgres")
	if err != nil {
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	config.MaxConns = committers + 1 // and one to read
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	if _, err := pool.Exec(ctx, schema); err != nil {
		pool.Close()
		return nil, fmt.Errorf("create tables: %w", err)
	}
	return &Counter{pool: pool, open: newGroup(), waiting: make(chan struct{}, 1)}, nil
}

func newGroup() *group {
	return &group{posts: make(map[message.Key][]message.Increment), done: make(chan struct{})}
}

// Close closes the connections.
func (c *Counter) Close() { c.pool.Close() }

// Run commits until ctx ends.
func (c *Counter) Run(ctx context.Context) {
	var committing sync.WaitGroup
	for range committers {
		committing.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-c.waiting:
				}
				g := c.take()
				g.err = c.commit(ctx, g)
				close(g.done)
			}
		})
	}
	committing.Wait()
}

func (c *Counter) take() *group {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.open
	c.open = newGroup()
	return g
}

var errNoKey = errors.New("a post without a key")

// Add implements serve.Counter.
func (c *Counter) Add(ctx context.Context, increments []message.Increment) error {
	key := increments[0].Key
	if key == (message.Key{}) {
		return errNoKey
	}
	c.mu.Lock()
	g := c.open
	g.posts[key] = increments // the same post twice in one group is one
	c.mu.Unlock()
	select {
	case c.waiting <- struct{}{}:
	default:
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commit counts the posts whose keys are new.
func (c *Counter) commit(ctx context.Context, g *group) error {
	if len(g.posts) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	connection, err := c.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer connection.Release() // closes it if it is in a transaction
	first := &pgx.Batch{}
	first.Queue("BEGIN")
	first.Queue(keep, g.keys())
	results := connection.SendBatch(ctx, first)
	if _, err := results.Exec(); err != nil {
		return errors.Join(fmt.Errorf("begin: %w", err), results.Close())
	}
	rows, _ := results.Query() // CollectRows returns its error
	fresh, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	if err := errors.Join(err, results.Close()); err != nil {
		return fmt.Errorf("keep keys: %w", err)
	}
	tags, sums := g.sum(fresh)
	second := &pgx.Batch{}
	if len(tags) > 0 {
		second.Queue(add, tags, sums)
	}
	second.Queue("COMMIT")
	if err := connection.SendBatch(ctx, second).Close(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// keys returns the keys of all posts, sorted: all transactions wait for each other's keys in the same order.
func (g *group) keys() [][16]byte {
	keys := make([][16]byte, 0, len(g.posts))
	for key := range g.posts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	return keys
}

// sum returns the sums of the posts with some keys, sorted by tag: all transactions lock rows in the same order.
func (g *group) sum(keys [][16]byte) (tags []string, sums []int64) {
	byTag := make(map[string]int64)
	for _, key := range keys {
		for _, i := range g.posts[key] {
			byTag[i.Tag] += int64(i.Value)
		}
	}
	tags = slices.Sorted(maps.Keys(byTag))
	sums = make([]int64, len(tags))
	for i, tag := range tags {
		sums[i] = byTag[tag]
	}
	return tags, sums
}

// Totals implements serve.Counter.
func (c *Counter) Totals(ctx context.Context) (map[string]int64, error) {
	rows, _ := c.pool.Query(ctx, "SELECT tag, total FROM totals") // ForEachRow returns its error
	totals := make(map[string]int64)
	var tag string
	var total int64
	if _, err := pgx.ForEachRow(rows, []any{&tag, &total}, func() error {
		totals[tag] = total
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read totals: %w", err)
	}
	return totals, nil
}
