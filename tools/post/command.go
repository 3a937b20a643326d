// Package post counts increments from the command line and from pipes.
package post

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	accrue "github.com/accrue/accrue/clients/go"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/load"
)

const (
	// maxLine bounds a line of NDJSON, in bytes.
	maxLine = 64 << 10
	// closeTimeout bounds the wait for the last outcomes.
	closeTimeout = time.Minute
	// warnInterval is the minimum time between two lines about failing requests.
	warnInterval = 2 * time.Second
)

type config struct {
	url         string
	contributor string
	words       bool
	json        bool
}

// Command returns the command accrue post.
func Command() *cobra.Command {
	c := config{}
	command := &cobra.Command{
		Use:   "post [NAME[=VALUE]...]",
		Short: "Count increments from arguments or standard input",
		Long: `Counts increments with retries, each exactly once. The value is 1 if there is none. Without arguments it reads one JSON
object a line from standard input, or with --words any text, each word of 3 to 15 letters a to z and _ counting 1.
Exit code 0 means that everything was counted.`,
		Example: `  accrue post foo=4 ballz
  accrue post --contributor ada coffee
  echo '{"name":"foo","value":4,"contributor":"ada","id":"order-1"}' | accrue post
  cat *.txt | accrue post --words`,
		RunE: c.run,
	}
	flags := command.Flags()
	flags.StringVar(&c.url, "url", "http://127.0.0.1:8080", "address of accrue run, or of ingest")
	flags.StringVar(&c.contributor, "contributor", "", "contributor of all increments that name none")
	flags.BoolVar(&c.words, "words", false, "count the words of standard input")
	flags.BoolVar(&c.json, "json", false, "print the result as JSON")
	return command
}

// result is what was counted.
type result struct {
	Counted atomic.Int64
	Sum     atomic.Int64
	Failed  atomic.Int64
}

func (c *config) run(command *cobra.Command, arguments []string) error {
	if c.words && len(arguments) > 0 {
		return cli.Usagef("--words reads standard input and has no arguments")
	}
	next := c.source(command.InOrStdin(), arguments)
	if len(arguments) > 0 { // an error in any argument must count nothing
		if err := c.check(arguments); err != nil {
			return cli.Usage(err)
		}
	}
	stderr := command.ErrOrStderr()
	r := &result{}
	var mu sync.Mutex
	var warned time.Time
	client, err := accrue.New(accrue.Config{
		URL: c.url,
		Report: func(o accrue.Outcome) {
			if o.Err != nil {
				r.Failed.Add(int64(len(o.Entries)))
				return
			}
			r.Counted.Add(int64(len(o.Entries)))
			for _, e := range o.Entries {
				r.Sum.Add(e.Value)
			}
		},
		ReportRetry: func(retry accrue.Retry) {
			mu.Lock()
			defer mu.Unlock()
			if time.Since(warned) >= warnInterval {
				warned = time.Now()
				fmt.Fprintf(stderr, "retrying: %v\n", retry.Err)
			}
		},
	})
	if err != nil {
		return cli.Usage(err)
	}
	if address, err := url.Parse(c.url); err == nil {
		if err := cli.ReachURL(command.Context(), address); err != nil {
			return fmt.Errorf("%s: %w", c.url, errors.Join(err, client.Close(command.Context())))
		}
	}
	reading := c.addAll(command.Context(), client, next)
	if errors.Is(reading, context.Canceled) { // Ctrl-C: what was added is still posted
		reading = errors.New("interrupted")
	}
	closing, stop := context.WithTimeout(context.WithoutCancel(command.Context()), closeTimeout)
	defer stop()
	err = errors.Join(reading, client.Close(closing))
	if c.json {
		if err := cli.PrintJSON(command.OutOrStdout(), map[string]int64{"counted": r.Counted.Load(), "sum": r.Sum.Load(), "failed": r.Failed.Load()}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(command.OutOrStdout(), "counted %d (sum %d)\n", r.Counted.Load(), r.Sum.Load())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.url, err)
	}
	return nil
}

// addAll adds every entry of a source to the client.
func (c *config) addAll(ctx context.Context, client *accrue.Client, next func() (accrue.Entry, error)) error {
	for {
		e, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Contributor == "" {
			e.Contributor = c.contributor
		}
		if err := client.Add(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
}

// check returns an error if any argument cannot be counted.
func (c *config) check(arguments []string) error {
	next := c.source(nil, arguments)
	for {
		e, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case e.Value < accrue.MinValue || e.Value > accrue.MaxValue:
			return fmt.Errorf("%s: the value must be %d to %d", e.Name, accrue.MinValue, accrue.MaxValue)
		}
	}
}

// source returns a function that returns one entry after the other, and io.EOF at the end.
func (c *config) source(stdin io.Reader, arguments []string) func() (accrue.Entry, error) {
	switch {
	case len(arguments) > 0:
		return func() (accrue.Entry, error) {
			if len(arguments) == 0 {
				return accrue.Entry{}, io.EOF
			}
			name, value, hasValue := strings.Cut(arguments[0], "=")
			arguments = arguments[1:]
			if !hasValue {
				return accrue.Entry{Name: name, Value: 1}, nil
			}
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return accrue.Entry{}, fmt.Errorf("%s: %q is not an integer", name, value)
			}
			return accrue.Entry{Name: name, Value: n}, nil
		}
	case c.words:
		words := load.NewWords(stdin)
		return func() (accrue.Entry, error) {
			word, err := words.Next()
			return accrue.Entry{Name: string(word), Value: 1}, err
		}
	default:
		lines := bufio.NewScanner(stdin)
		lines.Buffer(nil, maxLine)
		number := 0
		return func() (accrue.Entry, error) {
			for lines.Scan() {
				number++
				line := bytes.TrimSpace(lines.Bytes())
				if len(line) == 0 {
					continue
				}
				e, err := decode(line)
				if err != nil {
					return e, fmt.Errorf("line %d: %w", number, err)
				}
				return e, nil
			}
			if err := lines.Err(); err != nil {
				return accrue.Entry{}, fmt.Errorf("line %d: %w", number+1, err)
			}
			return accrue.Entry{}, io.EOF
		}
	}
}

// decode decodes a line of NDJSON.
func decode(line []byte) (accrue.Entry, error) {
	var entry struct {
		Name        string `json:"name"`
		Value       *int64 `json:"value"`
		Contributor string `json:"contributor"`
		ID          string `json:"id"`
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&entry); err != nil {
		return accrue.Entry{}, err
	}
	e := accrue.Entry{Name: entry.Name, Contributor: entry.Contributor, ID: entry.ID}
	switch {
	case entry.Value != nil:
		e.Value = *entry.Value
	case entry.Name != "":
		e.Value = 1
	}
	return e, nil
}
