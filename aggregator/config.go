package aggregator

import (
	"errors"
	"fmt"
	"time"

	"github.com/accrue/accrue/aggregator/internal/partition"
	"github.com/accrue/accrue/pkg/service"
)

// AckDeadline is the lease of the subscription which the aggregator creates at an emulator, and which deployments set. A
// longer window needs a longer lease: the aggregator sets it on the messages that it pulls.
const AckDeadline = 12 * time.Second

// Config holds the settings of the aggregator, read from the environment.
type Config struct {
	service.Config
	service.Firestore
	// Topic is the topic of the subscription. Against an emulator it is created if it is missing.
	Topic string `env:"INCREMENTS_TOPIC" envDefault:"increments"`
	// Subscription is the subscription that messages are pulled from.
	Subscription string `env:"INCREMENTS_SUBSCRIPTION" envDefault:"increments-aggregator"`
	// DeadLetterTopic is the topic for dead letters.
	DeadLetterTopic string `env:"DEAD_LETTER_TOPIC" envDefault:"increments-dead-letter"`
	// Window is how long a partition sums before it commits: 50ms to 20s.
	Window time.Duration `env:"WINDOW" envDefault:"1s"`
	// TagDocuments is how often the documents of tags are written: window, a duration from 1s to 24h, or off.
	TagDocuments TagDocuments `env:"TAG_DOCUMENTS" envDefault:"window"`
	// CommitDocuments is the maximum number of documents in one Commit: 1 to 5000.
	CommitDocuments int `env:"COMMIT_DOCUMENTS" envDefault:"1000"`
	// Commits is the maximum number of Commits in progress at once, over all partitions: 1 to 10000.
	Commits int `env:"COMMITS" envDefault:"256"`
	// Horizon is how long idempotency keys are remembered: 1m to 816h, 34 days.
	Horizon time.Duration `env:"IDEMPOTENCY_HORIZON" envDefault:"24h"`
	// Keys bounds the idempotency keys in memory, of 40 to 80 bytes each: 1000 or more. A batch counts as one for each
	// message that it is published in. Beyond it the oldest keys are evicted before the horizon, with a warning and a metric.
	Keys int `env:"IDEMPOTENCY_KEYS" envDefault:"5000000"`
	// BufferBytes bounds the memory that messages take until they are settled: 1 MiB or more.
	BufferBytes int64 `env:"BUFFER_BYTES" envDefault:"134217728"`
}

// Rules returns a rule for each setting.
func (c *Config) Rules() []service.Rule {
	return append(append(c.Config.Rules(), c.Firestore.Rules()...),
		service.PubSubID("INCREMENTS_TOPIC", c.Topic, "increments"),
		service.PubSubID("INCREMENTS_SUBSCRIPTION", c.Subscription, "increments-aggregator"),
		service.PubSubID("DEAD_LETTER_TOPIC", c.DeadLetterTopic, "increments-dead-letter"),
		service.Rule{
			Variable: "WINDOW", Holds: c.Window >= 50*time.Millisecond && c.Window <= 20*time.Second,
			Want: "a duration from 50ms to 20s, such as 1s",
		},
		service.Rule{
			Variable: "TAG_DOCUMENTS", Holds: c.TagDocuments.valid(),
			Want: "window, off, or a duration from 1s to 24h, such as 30s",
		},
		service.Rule{
			Variable: "COMMIT_DOCUMENTS", Holds: c.CommitDocuments >= 1 && c.CommitDocuments <= 5000,
			Want: "a number from 1 to 5000, such as 1000",
		},
		service.Rule{
			Variable: "COMMITS", Holds: c.Commits >= 1 && c.Commits <= 10_000,
			Want: "a number from 1 to 10000, such as 256",
		},
		service.Rule{
			Variable: "IDEMPOTENCY_HORIZON", Holds: c.Horizon >= time.Minute && c.Horizon <= 34*24*time.Hour,
			Want: "a duration from 1m to 816h, such as 24h",
		},
		service.Rule{Variable: "IDEMPOTENCY_KEYS", Holds: c.Keys >= 1000, Want: "1000 or more, such as 5000000"},
		service.Rule{Variable: "BUFFER_BYTES", Holds: c.BufferBytes >= 1<<20, Want: "1048576 bytes or more, such as 134217728"},
	)
}

// TagDocuments is how often the documents of tags are written: as long as it is after the first change that they lack, with each Commit if
// it is 0, or never if it is partition.Off.
type TagDocuments time.Duration

// UnmarshalText reads window, off, or a duration.
func (t *TagDocuments) UnmarshalText(text []byte) error {
	switch string(text) {
	case "window":
		*t = 0
	case "off":
		*t = TagDocuments(partition.Off)
	default:
		d, err := time.ParseDuration(string(text))
		if err == nil && d <= 0 {
			err = errors.New("not positive")
		}
		if err != nil {
			return fmt.Errorf("tag documents: %w", err)
		}
		*t = TagDocuments(d)
	}
	return nil
}

func (t TagDocuments) valid() bool {
	d := time.Duration(t)
	return d == 0 || d == partition.Off || d >= time.Second && d <= 24*time.Hour
}

// lease returns how long a message is leased at a time.
func (c *Config) lease() time.Duration { return max(AckDeadline, 2*c.Window) }
