package query

import (
	"errors"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/query/internal/recognition"
	"github.com/accrue/accrue/query/internal/webhook"
)

// Config holds the settings of query, read from the environment.
type Config struct {
	service.Config
	service.Firestore
	// Refresh is the time between two reads of the checkpoints, 10ms to 1m. Half of the aggregator's window keeps totals at
	// most two windows old. In the cloud each read is billed as one document per partition.
	Refresh time.Duration `env:"REFRESH" envDefault:"500ms"`
	// MetricsTags is how many tags /metrics/totals has at most, the biggest, 1 to 100,000.
	MetricsTags int `env:"METRICS_TAGS" envDefault:"1000"`
	// RecognitionsTopic is the topic for events. Against an emulator it is created if it is missing.
	RecognitionsTopic string `env:"RECOGNITIONS_TOPIC" envDefault:"recognitions"`
	// RecognitionTiers are the numbers of contributions at which a contributor is recognized, once each: 1 to 20 positive
	// integers in rising order, separated by commas. A tier that is added later also recognizes contributors who have
	// already passed it; removing a tier leaves its recognitions as they are. Each tier costs a query a second while
	// contributions are being counted.
	RecognitionTiers []int64 `env:"RECOGNITION_TIERS" envDefault:"3"`
	// RecognitionWebhooks are the receivers that recognition events are posted to, as name=URL: up to 20. The events of a receiver
	// wait in the subscription WebhookSubscription. Against an emulator it is created if it is missing.
	RecognitionWebhooks []string `env:"RECOGNITION_WEBHOOKS"`
	// RecognitionWebhookSecrets sign the requests, as name=whsec_ and 24 to 64 bytes in base64: one for each receiver, or two while
	// it is being changed.
	RecognitionWebhookSecrets []string `env:"RECOGNITION_WEBHOOK_SECRETS"`
}

// WebhookDeadline is the ack deadline of the receivers' subscriptions.
const WebhookDeadline = webhook.AckDeadline

// Receivers returns the names of the receivers of recognition events.
func (c *Config) Receivers() []string {
	names := make([]string, len(c.RecognitionWebhooks))
	for i, receiver := range c.RecognitionWebhooks {
		names[i], _, _ = strings.Cut(receiver, "=")
	}
	return names
}

// WebhookSubscription returns the id of the subscription of a receiver of recognition events.
func (c *Config) WebhookSubscription(receiver string) string {
	return c.RecognitionsTopic + webhookSubscription + receiver
}

// webhookSubscription stands between the names of the topic and of a receiver in that of a subscription.
const webhookSubscription = "-webhook-"

// Rules returns a rule for each setting.
func (c *Config) Rules() []service.Rule {
	_, err := webhook.Receivers(c.RecognitionWebhooks, c.RecognitionWebhookSecrets)
	return append(append(c.Config.Rules(), c.Firestore.Rules()...),
		service.Rule{
			Variable: "REFRESH", Holds: c.Refresh >= 10*time.Millisecond && c.Refresh <= time.Minute,
			Want: "a duration from 10ms to 1m, such as 500ms",
		},
		service.Rule{Variable: "METRICS_TAGS", Holds: c.MetricsTags >= 1 && c.MetricsTags <= 100_000, Want: "a number from 1 to 100000, such as 1000"},
		service.PubSubID("RECOGNITIONS_TOPIC", c.RecognitionsTopic, "recognitions"),
		service.Rule{
			Variable: "RECOGNITION_TIERS", Holds: recognition.ValidateTiers(c.RecognitionTiers) == nil,
			Want: recognition.ErrTiers.Error() + ", such as 3,10,100",
		},
		service.Rule{
			Variable: "RECOGNITION_WEBHOOKS", Holds: !errors.Is(err, webhook.ErrReceivers),
			Want: webhook.ErrReceivers.Error() + ", such as crm=https://crm.example/recognitions",
		},
		service.Rule{
			Variable: "RECOGNITION_WEBHOOK_SECRETS", Holds: !errors.Is(err, webhook.ErrSecrets),
			Want: webhook.ErrSecrets.Error(),
		},
	)
}
