// Package export writes what a running Accrue has counted as CSV or NDJSON. It reads the API of query, so it works with
// accrue run, with the services on Google Cloud, and with whatever is in front of them.
package export

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/tools/cli"
)

const (
	pageSize = 1000
	// requestTimeout bounds one request, and patience how long one is tried again while query refuses or cannot answer it.
	requestTimeout, patience = 30 * time.Second, time.Minute
	// pause is the time between two tries if query does not say.
	pause = time.Second
	// maxBody bounds an answer.
	maxBody = 16 << 20
	// kept is before everything that is kept.
	kept = "2000-01-01T00:00:00Z"
)

// Command returns the command accrue export.
func Command() *cobra.Command {
	var e exporter
	var format, resolution string
	var tags []string
	command := &cobra.Command{
		Use:   "export totals|history|contributors",
		Short: "Write totals, history or contributors as CSV or NDJSON",
		Long: `Writes all totals, the history of all tags as far as it is kept, or all contributors to standard output: a header and a
line each as CSV, or a JSON object a line. Each total is exact at the time at which its page is read. A history has the
periods in which something was counted: the last 30 days by hour, or the last 24 hours by minute.`,
		Example: `  accrue export totals > totals.csv
  accrue export history --resolution minute --tag foo --tag ballz
  accrue export contributors --format ndjson --url https://query.example.com`,
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) != 1 || !slices.Contains([]string{"totals", "history", "contributors"}, arguments[0]) {
				return cli.Usagef("totals, history or contributors is required")
			}
			return nil
		},
		RunE: func(c *cobra.Command, arguments []string) error {
			var err error
			switch {
			case format != "csv" && format != "ndjson":
				return cli.Usagef("--format must be csv or ndjson")
			case resolution != "hour" && resolution != "minute":
				return cli.Usagef("--resolution must be hour or minute")
			case arguments[0] != "history" && len(tags) > 0:
				return cli.Usagef("--tag is for history")
			}
			if e.url, err = cli.Address(e.address); err != nil {
				return err
			}
			if format == "csv" {
				e.csv = csv.NewWriter(c.OutOrStdout())
			} else {
				e.json = json.NewEncoder(c.OutOrStdout())
			}
			switch arguments[0] {
			case "totals":
				err = e.totals(c.Context())
			case "history":
				err = e.history(c.Context(), resolution, tags)
			default:
				err = e.contributors(c.Context())
			}
			if err == nil && e.csv != nil {
				e.csv.Flush()
				err = e.csv.Error()
			}
			return err
		},
	}
	flags := command.Flags()
	flags.StringVar(&e.address, "url", "http://127.0.0.1:8080", "address of accrue run, or of query")
	flags.StringVar(&format, "format", "csv", "csv or ndjson")
	flags.StringVar(&resolution, "resolution", "hour", "periods of a history: hour or minute")
	flags.StringArrayVar(&tags, "tag", nil, "a tag whose history is written; all without one")
	return command
}

// exporter writes rows.
type exporter struct {
	address string
	url     *url.URL
	csv     *csv.Writer // or nil
	json    *json.Encoder
	header  bool // is written
}

// row is a line.
type row interface {
	header() []string
	fields() []string
}

func (e *exporter) write(r row) error {
	if e.json != nil {
		return e.json.Encode(r)
	}
	if !e.header {
		e.header = true
		if err := e.csv.Write(r.header()); err != nil {
			return err
		}
	}
	return e.csv.Write(r.fields())
}

// get decodes an answer. An answer that says to try again is waited for.
func (e *exporter) get(ctx context.Context, path []string, query url.Values, into any) error {
	address := e.url.JoinPath(path...)
	address.RawQuery = query.Encode()
	for giveUp := time.Now().Add(patience); ; {
		wait, err := request(ctx, address, into)
		if err == nil || wait == 0 || time.Now().After(giveUp) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// request gets an answer once. Wait is when to try again, or 0.
func request(ctx context.Context, address *url.URL, into any) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), http.NoBody)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close() //nolint:errcheck // read
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	switch {
	case err != nil:
		return pause, fmt.Errorf("GET %s: %w", address, err)
	case answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode == http.StatusServiceUnavailable:
		wait = pause
		if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
			wait = time.Duration(min(seconds, int(patience.Seconds()))) * time.Second
		}
		fallthrough
	case answer.StatusCode != http.StatusOK:
		return wait, fmt.Errorf("GET %s: %s: %.300s", address, answer.Status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return 0, fmt.Errorf("GET %s: %w", address, err)
	}
	return 0, nil
}

// pages calls each with every page of a list. It decodes a page into a new T, and next returns the token of the one after it.
func pages[T any](ctx context.Context, e *exporter, path string, parameters url.Values, next func(*T) string, each func(*T) error) error {
	parameters.Set("page_size", strconv.Itoa(pageSize))
	for {
		var page T
		if err := e.get(ctx, []string{path}, parameters, &page); err != nil {
			return err
		}
		if err := each(&page); err != nil {
			return err
		}
		token := next(&page)
		if token == "" {
			return nil
		}
		parameters.Set("page_token", token)
	}
}

type tag struct {
	Name       string `json:"name"`
	Total      int64  `json:"total"`
	Increments int64  `json:"increments"`
	UpdatedAt  string `json:"updated_at"`
}

func (tag) header() []string { return []string{"name", "total", "increments", "updated_at"} }

func (t tag) fields() []string {
	return []string{t.Name, strconv.FormatInt(t.Total, 10), strconv.FormatInt(t.Increments, 10), t.UpdatedAt}
}

type tagPage struct {
	Tags []tag  `json:"tags"`
	Next string `json:"next_page_token"`
}

func (e *exporter) eachTag(ctx context.Context, each func(tag) error) error {
	return pages(ctx, e, "tags", url.Values{"order_by": {"name"}}, func(p *tagPage) string { return p.Next }, func(p *tagPage) error {
		for _, t := range p.Tags {
			if err := each(t); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *exporter) totals(ctx context.Context) error {
	return e.eachTag(ctx, func(t tag) error { return e.write(t) })
}

type change struct {
	Name       string `json:"name"`
	Resolution string `json:"resolution"`
	Begin      string `json:"begin"`
	Change     int64  `json:"change"`
}

func (change) header() []string { return []string{"name", "resolution", "begin", "change"} }

func (c change) fields() []string {
	return []string{c.Name, c.Resolution, c.Begin, strconv.FormatInt(c.Change, 10)}
}

func (e *exporter) history(ctx context.Context, resolution string, tags []string) error {
	period := time.Hour
	if resolution == "minute" {
		period = time.Minute
	}
	write := func(name string) error {
		var h struct {
			From    time.Time `json:"from"`
			Changes []int64   `json:"changes"`
		}
		if err := e.get(ctx, []string{"tags", name, "history"}, url.Values{"resolution": {resolution}, "from": {kept}}, &h); err != nil {
			return err
		}
		for i, n := range h.Changes {
			if n == 0 {
				continue
			}
			begin := h.From.Add(time.Duration(i) * period).UTC().Format(time.RFC3339)
			if err := e.write(change{name, resolution, begin, n}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, name := range tags {
		if err := write(name); err != nil {
			return err
		}
	}
	if len(tags) > 0 {
		return nil
	}
	return e.eachTag(ctx, func(t tag) error { return write(t.Name) })
}

type contributor struct {
	ID             string `json:"id"`
	Contributions  int64  `json:"contributions"`
	RecognizedTier int64  `json:"recognized_tier"`
	UpdatedAt      string `json:"updated_at"`
}

func (contributor) header() []string {
	return []string{"id", "contributions", "recognized_tier", "updated_at"}
}

func (c contributor) fields() []string {
	return []string{c.ID, strconv.FormatInt(c.Contributions, 10), strconv.FormatInt(c.RecognizedTier, 10), c.UpdatedAt}
}

type contributorPage struct {
	Contributors []contributor `json:"contributors"`
	Next         string        `json:"next_page_token"`
}

func (e *exporter) contributors(ctx context.Context) error {
	return pages(ctx, e, "contributors", url.Values{"order_by": {"id"}}, func(p *contributorPage) string { return p.Next }, func(p *contributorPage) error {
		for _, c := range p.Contributors {
			if err := e.write(c); err != nil {
				return err
			}
		}
		return nil
	})
}
