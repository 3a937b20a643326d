// Package embedded is the broker of embedded mode: topics and subscriptions with the behaviour of Pub/Sub, kept in a
// database.Database. A message that was published is kept until it is acknowledged, however old it gets and whatever
// becomes of the process. Leases are in memory: after a restart every message is delivered again, and the identity that
// it carries keeps it from being counted twice.
package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/database"
)

// The buckets. Each subscription has one of messages, named by prefix, topic and id, which are keyed by sequence number
// so that they are in the order of publishing. How many each holds is kept apart: to count them would be to read them.
var (
	prefix = []byte("messages/")
	counts = []byte("messages")
)

// Broker holds the topics and subscriptions of one database. It is safe for concurrent use, and so are its topics and
// subscriptions. There is at most one Broker of a database at a time.
type Broker struct {
	database *database.Database

	mu            sync.Mutex
	subscriptions map[string]*Subscription // those that are open, by the name of their bucket
}

// New makes a broker on a database.
func New(d *database.Database) *Broker {
	return &Broker{database: d, subscriptions: make(map[string]*Subscription)}
}

// Topic is the topic with the given id, which contains no slash.
func (b *Broker) Topic(id string) *Topic { return &Topic{broker: b, prefix: bucketName(id, "")} }

func bucketName(topic, id string) []byte { return fmt.Appendf(nil, "%s%s/%s", prefix, topic, id) }

// Topic publishes to every subscription that it has at that time, open or not. What is published to a topic without
// subscriptions is dropped, as with Pub/Sub.
type Topic struct {
	broker *Broker
	prefix []byte // of the names of its subscriptions' buckets
}

// Publish returns nil when all messages are on the disk. All reach every subscription or none reaches any, and publishes of
// concurrent callers share an fsync. The errors are broker.ErrMessageSize; broker.ErrRefused when the disk is full, and then
// nothing is published; and others, after which whether the messages are published is unknown.
func (t *Topic) Publish(ctx context.Context, messages []broker.Message) error {
	values, size := make([][]byte, len(messages)), 0
	now := t.broker.database.Now()
	for i := range messages {
		if n := messages[i].Size(); n > broker.MaxMessageBytes {
			return fmt.Errorf("publish: %w: %d bytes", broker.ErrMessageSize, n)
		}
		values[i] = pack(&messages[i], now)
		size += len(values[i])
	}
	err := t.broker.database.Update(ctx, size, func(tx *bolt.Tx) error {
		return t.publish(tx, values)
	}, func(err error) {
		if err == nil {
			t.broker.wake(t.prefix)
		}
	})
	if errors.Is(err, database.ErrFull) {
		err = fmt.Errorf("%w: %w", broker.ErrRefused, err)
	}
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (t *Topic) publish(tx *bolt.Tx, values [][]byte) error {
	root := tx.Cursor()
	for name, _ := root.Seek(t.prefix); bytes.HasPrefix(name, t.prefix); name, _ = root.Next() {
		bucket := tx.Bucket(name)
		bucket.FillPercent = 1 // messages come at the end
		for _, value := range values {
			sequence, err := bucket.NextSequence()
			if err == nil {
				err = bucket.Put(binary.BigEndian.AppendUint64(nil, sequence), value)
			}
			if err != nil {
				return err
			}
		}
		if err := count(tx, name, len(values)); err != nil {
			return err
		}
	}
	return nil
}

// count adds n to how many messages a subscription holds.
func count(tx *bolt.Tx, name []byte, n int) error {
	bucket := tx.Bucket(counts)
	return bucket.Put(name, database.AppendInt(nil, int64(held(bucket, name)+n)))
}

func held(bucket *bolt.Bucket, name []byte) int {
	return int(database.Read(bucket.Get(name)).Int())
}

// wake makes the pulls of a topic's subscriptions look again.
func (b *Broker) wake(topic []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, s := range b.subscriptions {
		if strings.HasPrefix(name, string(topic)) {
			s.published()
		}
	}
}

// Check returns nil when messages can be published, and else why not.
func (t *Topic) Check(ctx context.Context) error {
	if err := t.broker.database.Check(ctx); err != nil {
		return fmt.Errorf("check the broker: %w", err)
	}
	return nil
}

// Subscribe opens the subscription of a topic with the given id, and makes it if it does not exist: then it gets what is
// published from now on. Its leases last ackDeadline. Who subscribes again gets the same subscription, with the first
// deadline.
func (b *Broker) Subscribe(ctx context.Context, topic, id string, ackDeadline time.Duration) (*Subscription, error) {
	name := bucketName(topic, id)
	err := b.database.Update(ctx, 0, func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(counts)
		if err == nil {
			_, err = tx.CreateBucketIfNotExists(name)
		}
		return err
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.subscriptions[string(name)]
	if !ok {
		s = &Subscription{
			database: b.database, name: name, ackDeadline: ackDeadline,
			leased: make(map[string]*lease), changed: make(chan struct{}),
		}
		b.subscriptions[string(name)] = s
	}
	return s, nil
}

// Waiting returns how many messages wait in each subscription, leased or not, by topic and id with a slash between.
func (b *Broker) Waiting(ctx context.Context) (map[string]int, error) {
	waiting := make(map[string]int)
	err := b.database.View(ctx, func(tx *bolt.Tx) error {
		bucket := tx.Bucket(counts)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(name, _ []byte) error {
			waiting[string(bytes.TrimPrefix(name, prefix))] = held(bucket, name)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("count waiting messages: %w", err)
	}
	return waiting, nil
}

// pack returns a message as it is kept: when it was published, the number of attributes and each of their keys and values,
// and the data.
func pack(m *broker.Message, publishedAt time.Time) []byte {
	b := database.AppendTime(make([]byte, 0, m.Size()+32), publishedAt)
	b = database.AppendInt(b, int64(len(m.Attributes)))
	for key, value := range m.Attributes {
		b = database.AppendBytes(database.AppendBytes(b, key), value)
	}
	return append(b, m.Data...)
}

// unpack reads what pack has returned, and copies it.
func unpack(packed []byte) (broker.Delivery, error) {
	record := database.Read(packed)
	d := broker.Delivery{PublishedAt: record.Time()}
	if n := record.Int(); n > 0 {
		d.Attributes = make(map[string]string, min(n, int64(len(packed))))
		for ; n > 0 && record.Err() == nil; n-- {
			key := string(record.Bytes())
			d.Attributes[key] = string(record.Bytes())
		}
	}
	d.Data = bytes.Clone(record.Rest())
	return d, record.Err()
}
