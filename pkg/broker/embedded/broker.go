// Package embedded is the broker of embedded mode: topics and subscriptions that behave like those of Pub/Sub, in a
// database.Database. A published message is kept until it is acknowledged, through restarts and without a time limit. Leases are
// in memory: after a restart all unacknowledged messages are delivered again, and their identity prevents that they are counted
// twice.
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

// The buckets. Each subscription has a bucket of messages, whose name is prefix, topic and id, and whose keys are sequence
// numbers in the order of publishing. Another bucket has the number of messages of each, since counting them would read them all.
var (
	prefix = []byte("messages/")
	counts = []byte("messages")
)

// Broker has the topics and subscriptions of one database. It is safe for concurrent use, and so are its topics and subscriptions.
// A database must not have more than one Broker at a time.
type Broker struct {
	database *database.Database

	mu            sync.Mutex
	subscriptions map[string]*Subscription // the open ones, by bucket name
}

// New returns a broker on a database.
func New(d *database.Database) *Broker {
	return &Broker{database: d, subscriptions: make(map[string]*Subscription)}
}

// Topic returns the topic with the given id, which must not contain a slash.
func (b *Broker) Topic(id string) *Topic { return &Topic{broker: b, prefix: bucketName(id, "")} }

func bucketName(topic, id string) []byte { return fmt.Appendf(nil, "%s%s/%s", prefix, topic, id) }

// Topic publishes to all its subscriptions that exist at that time, open or not. As with Pub/Sub, messages to a topic without
// subscriptions are dropped.
type Topic struct {
	broker *Broker
	prefix []byte // of the names of its subscriptions' buckets
}

// Publish returns nil when all messages are on disk in every subscription. It publishes all messages or none. Concurrent calls
// share an fsync. If a message is too large it returns broker.ErrMessageSize, if the disk is full broker.ErrRefused, and publishes
// nothing. After any other error the outcome is unknown.
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
		bucket.FillPercent = 1 // messages are appended
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

// count adds n to the number of messages of a subscription.
func count(tx *bolt.Tx, name []byte, n int) error {
	bucket := tx.Bucket(counts)
	return bucket.Put(name, database.AppendInt(nil, int64(held(bucket, name)+n)))
}

func held(bucket *bolt.Bucket, name []byte) int {
	return int(database.Read(bucket.Get(name)).Int())
}

// wake makes waiting Pulls of the topic's subscriptions look for messages.
func (b *Broker) wake(topic []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, s := range b.subscriptions {
		if strings.HasPrefix(name, string(topic)) {
			s.published()
		}
	}
}

// Check returns an error if messages cannot be published.
func (t *Topic) Check(ctx context.Context) error {
	if err := t.broker.database.Check(ctx); err != nil {
		return fmt.Errorf("check the broker: %w", err)
	}
	return nil
}

// Subscribe opens the subscription of a topic with the given id, and creates it if it does not exist. A new subscription gets the
// messages that are published afterwards. Leases last ackDeadline. Another call with the same topic and id returns the same
// Subscription, with the deadline of the first call.
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

// Unsubscribe removes a subscription that is not open, with the messages that wait in it. It need not exist.
func (b *Broker) Unsubscribe(ctx context.Context, topic, id string) error {
	name := bucketName(topic, id)
	err := b.database.Update(ctx, 0, func(tx *bolt.Tx) error {
		if tx.Bucket(name) == nil {
			return nil
		}
		if err := tx.DeleteBucket(name); err != nil {
			return err
		}
		return tx.Bucket(counts).Delete(name)
	}, nil)
	if err != nil {
		return fmt.Errorf("unsubscribe from %s: %w", topic, err)
	}
	return nil
}

// Waiting returns the number of unacknowledged messages of each subscription, leased or not, by topic, slash and id.
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

// pack encodes a message: the time of publishing, the number of attributes, their keys and values, and the data.
func pack(m *broker.Message, publishedAt time.Time) []byte {
	b := database.AppendTime(make([]byte, 0, m.Size()+32), publishedAt)
	b = database.AppendInt(b, int64(len(m.Attributes)))
	for key, value := range m.Attributes {
		b = database.AppendBytes(database.AppendBytes(b, key), value)
	}
	return append(b, m.Data...)
}

// unpack is the inverse of pack. The result does not refer to packed.
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
