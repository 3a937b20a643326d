package ingest

import (
	"fmt"
	"slices"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/ingest/internal/names"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/service"
)

// Config holds the settings of ingest, read from the environment.
type Config struct {
	service.Config
	// Topic is the topic that messages are published to. Against an emulator it is created if it is missing.
	Topic string `env:"INCREMENTS_TOPIC" envDefault:"increments"`
	// Subscription is the aggregator's. Against an emulator it is created with the topic; ingest does not use it otherwise.
	Subscription string `env:"INCREMENTS_SUBSCRIPTION" envDefault:"increments-aggregator"`
	// Partitions is the number of partitions that tags and contributors are spread over, 1 to 4096. Each partition adds a
	// message to every publish and has a document with room for some 20,000 tags. The number can be raised at any time, and
	// instances may differ.
	Partitions int `env:"PARTITIONS" envDefault:"16"`
	// Tags are the tags that are taken, up to 10,000 names separated by commas, in which * stands for any characters; empty means
	// any.
	Tags []string `env:"TAGS"`
	// NewTags is how many tags a minute are taken that this instance has not seen: beyond it posts are answered 429; 0 means any
	// number. An instance has seen nothing when it starts.
	NewTags int `env:"NEW_TAGS_PER_MINUTE" envDefault:"0"`
	// PendingBytes bounds the memory for bodies that are being read, and for entries that wait or are being published: 8 MiB
	// or more. An increment takes some 20 bytes; beyond the bound requests are answered 503. Bodies of more than 16 KB take
	// at most half of it. The process needs about three times as much memory.
	PendingBytes int `env:"PENDING_BYTES" envDefault:"67108864"`
}

// maxTags and maxNewTags bound TAGS and NEW_TAGS_PER_MINUTE.
const maxTags, maxNewTags = 10_000, 1_000_000

// Rules returns a rule for each setting.
func (c *Config) Rules() []service.Rule {
	return append(c.Config.Rules(),
		service.PubSubID("INCREMENTS_TOPIC", c.Topic, "increments"),
		service.PubSubID("INCREMENTS_SUBSCRIPTION", c.Subscription, "increments-aggregator"),
		service.Rule{
			Variable: "PARTITIONS", Holds: c.Partitions >= 1 && c.Partitions <= increment.MaxPartitions,
			Want: fmt.Sprintf("a number from 1 to %d, such as 16", increment.MaxPartitions),
		},
		service.Rule{
			Variable: "TAGS", Holds: len(c.Tags) <= maxTags && !slices.ContainsFunc(c.Tags, func(s string) bool { return !names.ValidPattern(s) }),
			Want: "up to 10,000 names of tags, with * for any characters, separated by commas, such as foo,page_*",
		},
		service.Rule{
			Variable: "NEW_TAGS_PER_MINUTE", Holds: c.NewTags >= 0 && c.NewTags <= maxNewTags,
			Want: "a number from 0 to 1000000, such as 1000",
		},
		service.Rule{
			Variable: "PENDING_BYTES", Holds: c.PendingBytes >= batching.MinLimit,
			Want: fmt.Sprintf("%d bytes or more, such as 67108864", batching.MinLimit),
		},
	)
}
