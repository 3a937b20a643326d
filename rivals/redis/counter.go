// Package redis counts with Redis: HINCRBY from rueidis, which pipelines concurrent callers, and the same made exact with a key
// for each post.
package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/accrue/accrue/pkg/message"
	"github.com/accrue/accrue/rivals/serve"
)

// totals is the hash with the total of every tag. All of them are read with one command.
const totals = "totals"

// Counter counts in a hash.
type Counter struct {
	client rueidis.Client
	exact  bool
}

// once counts a post unless its key exists. It is one command for Redis, so it happens as a whole.
var once = rueidis.NewLuaScript(`
if redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[1]) then
  for i = 2, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
return 0`)

// New returns a counter on the server at an address. An exact counter counts posts with the same key once.
func New(address string, exact bool) (*Counter, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, DisableCache: true})
	if err != nil {
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	return &Counter{client, exact}, nil
}

// Close closes the connection.
func (c *Counter) Close() { c.client.Close() }

// Add implements serve.Counter.
func (c *Counter) Add(ctx context.Context, increments []message.Increment) error {
	if c.exact {
		return c.addOnce(ctx, increments)
	}
	if len(increments) == 1 {
		if err := c.client.Do(ctx, c.add(&increments[0])).Error(); err != nil {
			return fmt.Errorf("add: %w", err)
		}
		return nil
	}
	commands := make(rueidis.Commands, len(increments))
	for i := range increments {
		commands[i] = c.add(&increments[i])
	}
	var faults []error
	for _, result := range c.client.DoMulti(ctx, commands...) {
		faults = append(faults, result.Error())
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("add: %w", err)
	}
	return nil
}

func (c *Counter) add(i *message.Increment) rueidis.Completed {
	return c.client.B().Hincrby().Key(totals).Field(i.Tag).Increment(int64(i.Value)).Build()
}

var errNoKey = errors.New("a post without a key")

func (c *Counter) addOnce(ctx context.Context, increments []message.Increment) error {
	key := increments[0].Key
	if key == (message.Key{}) {
		return errNoKey
	}
	arguments := make([]string, 0, 1+2*len(increments))
	arguments = append(arguments, strconv.Itoa(int(serve.Horizon.Seconds())))
	for i := range increments {
		arguments = append(arguments, increments[i].Tag, strconv.Itoa(int(increments[i].Value)))
	}
	if err := once.Exec(ctx, c.client, []string{string(key[:]), totals}, arguments).Error(); err != nil {
		return fmt.Errorf("add once: %w", err)
	}
	return nil
}

// Totals implements serve.Counter.
func (c *Counter) Totals(ctx context.Context) (map[string]int64, error) {
	all, err := c.client.Do(ctx, c.client.B().Hgetall().Key(totals).Build()).AsIntMap()
	if err != nil {
		return nil, fmt.Errorf("read totals: %w", err)
	}
	return all, nil
}
