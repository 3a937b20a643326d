package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/accrue/accrue/tools/cli"
)

const (
	// scrapeTimeout bounds one request for metrics, and maxScrape its answer in bytes.
	scrapeTimeout = 5 * time.Second
	maxScrape     = 16 << 20
	// auditEvery is the time between two readings.
	auditEvery = 500 * time.Millisecond
)

// audit is what the counters of all services add up to. Each entry that ingest has published is counted, rejected, a repeat of a
// key, or in flight.
type audit struct {
	Accepted int64 `json:"accepted"`
	// Failed entries were published or not: ingest has no answer. They were answered 503, or published again.
	Failed   int64 `json:"failed"`
	Counted  int64 `json:"counted"`
	Rejected int64 `json:"rejected"`
	Repeated int64 `json:"repeated"`
	InFlight int64 `json:"in_flight"`
	// Uncertain Commits failed, and may be in the store all the same; their entries are not in Counted. DeadLetters are messages,
	// whose entries are not known.
	Uncertain   int64 `json:"uncertain_commits"`
	DeadLetters int64 `json:"dead_letters"`

	ingests, aggregators int
}

func (a *audit) settled() int64 { return a.Counted + a.Rejected + a.Repeated }

// add adds the metrics of a process.
func (a *audit) add(families map[string]*dto.MetricFamily) {
	if _, ok := families["accrue_publish_window_bytes"]; ok {
		a.ingests++
	}
	if _, ok := families["accrue_entries_counted_total"]; ok {
		a.aggregators++
	}
	a.Accepted += sum(families["accrue_publish_entries_total"], "result", "ok")
	a.Failed += sum(families["accrue_publish_entries_total"], "result", "failed")
	a.Counted += sum(families["accrue_entries_counted_total"], "")
	a.Rejected += sum(families["accrue_entries_rejected_total"], "")
	a.Repeated += sum(families["accrue_keys_repeated_total"], "")
	a.Uncertain += sum(families["accrue_commits_total"], "result", "unknown", "conflict")
	a.DeadLetters += sum(families["accrue_messages_dead_lettered_total"], "")
}

// sum adds up the counters of a family whose label has one of the values, or all of them if no values are given.
func sum(family *dto.MetricFamily, label string, values ...string) (total int64) {
	for _, m := range family.GetMetric() {
		matches := len(values) == 0
		for _, pair := range m.GetLabel() {
			for _, value := range values {
				matches = matches || pair.GetName() == label && pair.GetValue() == value
			}
		}
		if matches {
			total += int64(m.GetCounter().GetValue())
		}
	}
	return total
}

// String is the equation.
func (a *audit) String() string {
	text := fmt.Sprintf("accepted %d = counted %d + rejected %d + repeated %d + in flight %d", a.Accepted, a.Counted, a.Rejected, a.Repeated, a.InFlight)
	if a.Failed > 0 {
		text += fmt.Sprintf(" (%d more were published or not)", a.Failed)
	}
	return text
}

// scraper reads the metrics of the services at the addresses.
type scraper struct{ addresses []string }

// read adds up the metrics of all addresses. They are not of one moment: an entry may be accepted and counted between two of them.
func (s *scraper) read(ctx context.Context) (*audit, error) {
	a := &audit{}
	for _, address := range s.addresses {
		families, err := scrape(ctx, address)
		if err != nil {
			return nil, fmt.Errorf("read the metrics of %s: %w", address, err)
		}
		a.add(families)
	}
	switch {
	case a.ingests == 0:
		return nil, errors.New("none of the addresses has metrics of ingest")
	case a.aggregators == 0:
		return nil, errors.New("none of the addresses has metrics of an aggregator")
	}
	a.InFlight = a.Accepted - a.settled()
	return a, nil
}

func scrape(ctx context.Context, address string) (map[string]*dto.MetricFamily, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, cli.Usagef("--metrics must be an address such as http://127.0.0.1:8080")
	}
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, metricsURL(u), http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // read
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(io.LimitReader(response.Body, maxScrape))
}

// metricsURL is the address with /metrics, unless it has that path already.
func metricsURL(u *url.URL) string {
	return strings.TrimSuffix(strings.TrimSuffix(u.String(), "/"), "/metrics") + "/metrics"
}

var (
	errUnsettled = errors.New("entries are in flight for too long, or lost")
	errTooMany   = errors.New("more was counted than was accepted")
	errUncertain = errors.New("the counters cannot tell: Commits failed whose outcome is unknown, or messages are dead letters; compare with --archive")
)

// auditMetrics reads until as much is settled as was accepted when it began, and no more than was accepted by then. It returns the
// last reading, and an error if that is not so within the time to wait.
func auditMetrics(ctx context.Context, addresses []string, wait time.Duration, progress io.Writer) (*audit, error) {
	s := &scraper{addresses}
	began, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(auditEvery)
	defer ticker.Stop()
	for deadline := time.Now().Add(wait); ; {
		a, err := s.read(ctx)
		if err != nil {
			return nil, err
		}
		tooMany := a.settled() > a.Accepted+a.Failed
		switch {
		case a.settled() >= began.Accepted && !tooMany:
			return a, nil
		case time.Now().Before(deadline):
		case tooMany:
			return a, errTooMany
		case a.Uncertain > 0 || a.DeadLetters > 0:
			return a, errUncertain
		default:
			return a, errUnsettled
		}
		fmt.Fprintln(progress, a)
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case <-ticker.C:
		}
	}
}
