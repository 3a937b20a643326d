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

// contract compares the answers of one process with the OpenAPI document that it serves.
type contract struct {
	document *openapitest.Document

	mu         sync.Mutex
	violations []string
	passed     int
}

// maxViolations bounds how many violations are kept.
const maxViolations = 10

func (c *contract) record(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.passed++
	case len(c.violations) < maxViolations:
		c.violations = append(c.violations, err.Error())
	}
}

// report fails the test for every violation of the document.
func (c *contract) report(t *testing.T, service string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, violation := range c.violations {
		t.Errorf("%s violates its document: %s", service, violation)
	}
	t.Logf("%d exchanges with %s conform to its document", c.passed, service)
}

// contractTransport compares every exchange of the tests' client with the document of the process that answered.
type contractTransport struct {
	http.RoundTripper

	mu sync.Mutex
	// contracts has the contract of each process by its host. A later process may reuse the port of an earlier one.
	contracts map[string]*contract
	// contributors are the posted contributors, without those whose ids are so short that a log may contain them by chance.
	contributors map[string]bool
}

// minUniqueID is the length in bytes of an id that no log line contains by chance.
const minUniqueID = 8

var contributorField = regexp.MustCompile(`"contributor":\s*"([^"]+)"`)

// remember records the contributors that a request names.
func (t *contractTransport) remember(body []byte) {
	for _, found := range contributorField.FindAllSubmatch(body, -1) {
		if id := string(found[1]); len(id) >= minUniqueID {
			t.mu.Lock()
			t.contributors[id] = true
			t.mu.Unlock()
		}
	}
}

// contributorIn returns a posted contributor that log contains, if any.
func (t *contractTransport) contributorIn(log string) (id string, found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.contributors {
		if strings.Contains(log, id) {
			return id, true
		}
	}
	return "", false
}

// readContract reads the document of the service at host, if it has one.
func (t *contractTransport) readContract(test *testing.T, host string) *contract {
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
	if response.StatusCode != http.StatusNotFound { // the aggregator has no API
		if c.document, err = openapitest.Read(test.Context(), text); err != nil {
			test.Fatal(err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.contracts[host] = c
	return c
}

func (t *contractTransport) contractOf(host string) *contract {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.contracts[host]
}

// RoundTrip sends the request, reads the whole answer and checks both. Of an event stream it checks the header only.
func (t *contractTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	c := t.contractOf(request.URL.Host)
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
		t.remember(exchange.Body)
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
	c.record(c.document.Check(request.Context(), exchange))
	return response, nil
}
