package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/accrue/accrue/e2e/openapitest"
	"github.com/accrue/accrue/pkg/openapi"
)

// contract holds one process to the document that it serves.
type contract struct {
	document *openapitest.Document

	mu     sync.Mutex
	faults []string
	passed int
}

// maxFaultsKept bounds what is kept of faults: the first ones tell.
const maxFaultsKept = 10

func (c *contract) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.passed++
	case len(c.faults) < maxFaultsKept:
		c.faults = append(c.faults, err.Error())
	}
}

// report fails the test for every departure from the document.
func (c *contract) report(t *testing.T, service string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fault := range c.faults {
		t.Errorf("%s departs from its document: %s", service, fault)
	}
	t.Logf("%d exchanges with %s were as its document says", c.passed, service)
}

// contractTransport holds all exchanges of the tests' client to the documents of the processes that it speaks with.
type contractTransport struct {
	http.RoundTripper

	mu sync.Mutex
	// contracts are those of the processes, by host. A later process may have the port of an earlier one.
	contracts map[string]*contract
	// people are the contributors that were posted, as far as their ids are long enough to be found nowhere by chance.
	people map[string]bool
}

// longEnough is the length, in bytes, of an id that no log line has by chance.
const longEnough = 8

var namesPerson = regexp.MustCompile(`"contributor":\s*"([^"]+)"`)

// meet remembers the contributors in a body.
func (t *contractTransport) meet(body []byte) {
	for _, found := range namesPerson.FindAllSubmatch(body, -1) {
		if id := string(found[1]); len(id) >= longEnough {
			t.mu.Lock()
			t.people[id] = true
			t.mu.Unlock()
		}
	}
}

// named returns a contributor whom a log names, if it does.
func (t *contractTransport) named(log string) (who string, found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.people {
		if strings.Contains(log, id) {
			return id, true
		}
	}
	return "", false
}

// learn reads the document of the service at a host, if it has one.
func (t *contractTransport) learn(test *testing.T, host string) *contract {
	test.Helper()
	request, err := http.NewRequestWithContext(test.Context(), http.MethodGet, "http://"+host+openapi.Path, http.NoBody)
	if err != nil {
		test.Fatal(err)
	}
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		test.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // read
	text, err := io.ReadAll(response.Body)
	if err != nil {
		test.Fatal(err)
	}
	c := &contract{}
	if response.StatusCode != http.StatusNotFound { // the aggregator's: it has no API
		if c.document, err = openapitest.Read(test.Context(), text); err != nil {
			test.Fatal(err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.contracts[host] = c
	return c
}

func (t *contractTransport) of(host string) *contract {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.contracts[host]
}

// RoundTrip sends the request and reads the whole answer, unless it is a stream's, whose beginning is checked alone.
func (t *contractTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	c := t.of(request.URL.Host)
	if c == nil || c.document == nil {
		return t.RoundTripper.RoundTrip(request)
	}
	exchange := openapitest.Exchange{Request: request}
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return nil, err
		}
		if exchange.Body, err = io.ReadAll(body); err != nil {
			return nil, err
		}
		t.meet(exchange.Body)
	}
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		exchange.Answer, err = io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		response.Body = io.NopCloser(bytes.NewReader(exchange.Answer))
	}
	exchange.Status, exchange.Header = response.StatusCode, response.Header
	c.note(c.document.Check(request.Context(), exchange))
	return response, nil
}
