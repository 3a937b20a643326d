package query

import (
	"time"

	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/query/internal/recognition"
)

// Config holds the settings of query, read from the environment.
type Config struct {
	service.Config
	service.Firestore
	// Refresh is the time between two reads of the checkpoints, 10ms to 1m. Half of the aggregator's window keeps totals at
	// most two windows old. In the cloud each read is billed as one document per partition.
	Refresh time.Duration `env:"REFRESH" envDefault:"500ms"`
	// RecognitionsTopic is the topic for events. Against an emulator it is created if it is missing.
	RecognitionsTopic string `env:"RECOGNITIONS_TOPIC" envDefault:"recognitions"`
	// RecognitionTiers are the numbers of contributions at which a contributor is recognized, once each: 1 to 20 positive
	// integers in rising order, separated by commas. A tier that is added later also recognizes contributors who have
	// already passed it; removing a tier leaves its recognitions as they are. Each tier costs a query a second while
	// contributions are being counted.
	RecognitionTiers []int64 `env:"RECOGNITION_TIERS" envDefault:"3"`
}

// Rules returns a rule for each setting.
func (c *Config) Rules() []service.Rule {
	return append(append(c.Config.Rules(), c.Firestore.Rules()...),
		service.Rule{
			Variable: "REFRESH", Holds: c.Refresh >= 10*time.Millisecond && c.Refresh <= time.Minute,
			Want: "a duration from 10ms to 1m, such as 500ms",
		},
		service.PubSubID("RECOGNITIONS_TOPIC", c.RecognitionsTopic, "recognitions"),
		service.Rule{
			Variable: "RECOGNITION_TIERS", Holds: recognition.ValidateTiers(c.RecognitionTiers) == nil,
			Want: recognition.ErrTiers.Error() + ", such as 3,10,100",
		},
	)
}
