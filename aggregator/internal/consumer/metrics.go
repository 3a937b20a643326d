package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/accrue/accrue/pkg/logging"
)

// metrics measures the consumer. docs/metrics.md says what each metric means.
type metrics struct{ pulled, decoded, deadLettered metric.Int64Counter }

func newMetrics(m metric.Meter, c *Consumer) (*metrics, error) {
	if m == nil {
		m = noop.Meter{}
	}
	var faults []error
	counter := func(name, description string) metric.Int64Counter {
		counter, err := m.Int64Counter(name, metric.WithDescription(description))
		faults = append(faults, err)
		counter.Add(context.Background(), 0) // exposed from the start: a rate over a counter that appears later misses its first step
		return counter
	}
	all := &metrics{
		pulled:       counter("accrue_messages_pulled", "Messages pulled, including redeliveries."),
		decoded:      counter("accrue_messages_decoded", "Pulled messages that decoded successfully."),
		deadLettered: counter("accrue_messages_dead_lettered", "Messages that can never be applied, published to the dead-letter topic."),
	}
	_, err := m.Float64ObservableGauge("accrue_held", metric.WithUnit("By"), metric.WithDescription("Memory that messages take until they are settled."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(float64(c.buffer.bytes()))
			return nil
		}))
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, fmt.Errorf("measure the consumer: %w", err)
	}
	return all, nil
}

// outages are the requests that can fail for a long time.
type outages struct{ pull, acknowledge, extend, deadLetter, apply outage }

func newOutages(log zerolog.Logger) outages {
	return outages{
		pull:        outage{logging.NewOutage(log, zerolog.WarnLevel, "pull")},
		acknowledge: outage{logging.NewOutage(log, zerolog.WarnLevel, "acknowledge")},
		extend:      outage{logging.NewOutage(log, zerolog.WarnLevel, "extend leases")},
		deadLetter:  outage{logging.NewOutage(log, zerolog.ErrorLevel, "dead-letter messages")},
		apply:       outage{logging.NewOutage(log, zerolog.ErrorLevel, "apply messages, which are dead-lettered")},
	}
}

type outage struct{ *logging.Outage }

// report reports the outcome of a request, unless ctx has ended.
func (o outage) report(ctx context.Context, err error) {
	switch {
	case err == nil:
		o.Succeeded()
	case ctx.Err() == nil:
		o.Failed(err, nil)
	}
}
