// Package openapitest compares what a service does with its OpenAPI document: the service accepts the requests that the document
// allows, refuses all others, and sends only answers that the document describes.
package openapitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/accrue/accrue/pkg/openapi"
	"github.com/accrue/accrue/pkg/problem"
)

// Document is the OpenAPI document of a service.
type Document struct {
	spec   *openapi3.T
	router routers.Router
	// problem is the schema of answers to requests for which the document has no operation.
	problem *openapi3.Schema
}

// Read parses a JSON document and validates it and its examples.
func Read(ctx context.Context, document []byte) (*Document, error) {
	spec, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	if err := spec.Validate(ctx, openapi3.EnableExamplesValidation()); err != nil {
		return nil, fmt.Errorf("validate the document: %w", err)
	}
	spec.Servers = nil // relative to where the document was read: "/"
	router, err := gorillamux.NewRouter(spec)
	if err != nil {
		return nil, fmt.Errorf("route by the document: %w", err)
	}
	schema := spec.Components.Schemas["Problem"]
	if schema == nil {
		return nil, errors.New("the document has no schema Problem")
	}
	// Clients must ignore unknown fields, but to the tests they are undocumented.
	for _, s := range spec.Components.Schemas {
		if len(s.Value.Properties) > 0 && s.Value.AdditionalProperties.Schema == nil {
			closed := false
			s.Value.AdditionalProperties.Has = &closed
		}
	}
	return &Document{spec: spec, router: router, problem: schema.Value}, nil
}

// Spec returns the document itself, which must not be modified.
func (d *Document) Spec() *openapi3.T { return d.spec }

// Exchange is one request and its answer.
type Exchange struct {
	// Request is the request. Its body is not read.
	Request *http.Request
	// Body is the request's body.
	Body []byte
	// Status, Header and Answer are those of the answer. The Answer of an event stream may be incomplete.
	Status int
	Header http.Header
	Answer []byte
}

// maxBody is the size in bytes beyond which services answer 413. A schema cannot express it.
const maxBody = 1 << 20

// Check returns all violations of the document in an exchange, joined, or nil.
func (d *Document) Check(ctx context.Context, e Exchange) error {
	if err := d.check(ctx, e); err != nil {
		return fmt.Errorf("%s %s %.200s: %d %.300s: %w", e.Request.Method, e.Request.URL.RequestURI(), e.Body, e.Status, e.Answer, err)
	}
	return nil
}

func (d *Document) check(ctx context.Context, e Exchange) error {
	if e.Request.Method == http.MethodOptions && e.Request.Header.Get("Access-Control-Request-Method") != "" {
		return nil // a CORS preflight request, answered alike for all paths
	}
	request := e.Request.Clone(ctx)
	if request.Method == http.MethodHead {
		request.Method = http.MethodGet
	}
	request.Body = io.NopCloser(bytes.NewReader(e.Body))
	request.ContentLength = int64(len(e.Body))
	route, parameters, err := d.router.FindRoute(request)
	switch {
	case errors.Is(err, routers.ErrMethodNotAllowed):
		return d.checkProblem(e, http.StatusMethodNotAllowed)
	case err != nil:
		if undocumented(e.Request.URL.Path) {
			return nil
		}
		return d.checkProblem(e, http.StatusNotFound)
	}
	for name, value := range parameters { // the router leaves them escaped
		if parameters[name], err = url.PathUnescape(value); err != nil {
			return fmt.Errorf("path: %w", err)
		}
	}
	input := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true, SkipSettingDefaults: true},
	}
	return errors.Join(checkRefusal(e, route, checkRequest(ctx, input, e.Body)), checkAnswer(ctx, input, e))
}

// undocumented reports whether a path is not part of the API: the files of a page, and the metrics.
func undocumented(path string) bool {
	return strings.HasPrefix(path, openapi.PagePath) || strings.HasPrefix(path, "/board/") || path == "/metrics"
}

// checkRequest returns all violations of the document in a request.
func checkRequest(ctx context.Context, input *openapi3filter.RequestValidationInput, body []byte) error {
	violations := []error{openapi3filter.ValidateRequest(ctx, input)}
	values, err := url.ParseQuery(input.Request.URL.RawQuery)
	violations = append(violations, err)
	for name, given := range values {
		known := input.Route.Operation.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) != nil
		if RefusesParameters(input.Route.Method, input.Route.Operation) && (!known || len(given) > 1) {
			violations = append(violations, fmt.Errorf("parameter %s is unknown or appears twice", name))
		}
	}
	for _, ref := range input.Route.Operation.Parameters {
		if p := ref.Value; p.In == openapi3.ParameterInHeader && p.Schema.Value.Pattern != "" && len(input.Request.Header.Values(p.Name)) > 1 {
			violations = append(violations, fmt.Errorf("header %s appears twice", p.Name))
		}
	}
	if input.Route.Operation.RequestBody != nil {
		violations = append(violations, checkEncoding(input.Request.Header, body))
	}
	return errors.Join(violations...)
}

// RefusesParameters reports whether an operation refuses unknown query parameters. Every GET does that can answer 400.
func RefusesParameters(method string, o *openapi3.Operation) bool {
	return method == http.MethodGet && o.Responses.Status(http.StatusBadRequest) != nil
}

// refusals returns the statuses of answers to invalid requests.
func refusals() []int {
	return []int{
		http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity,
	}
}

// checkRefusal returns an error if a valid request was refused or an invalid one was not.
func checkRefusal(e Exchange, route *routers.Route, invalid error) error {
	refused := slices.Contains(refusals(), e.Status)
	switch {
	case invalid != nil && (e.Status < 400 || e.Status > 499) && e.Status != http.StatusServiceUnavailable: // 503 comes before validation
		return fmt.Errorf("not refused: %w", invalid)
	case invalid == nil && refused:
		for _, ref := range route.Operation.Parameters {
			if e.Status == http.StatusBadRequest && beyondTheDocument(ref.Value, e.Request.URL.Query()) {
				return nil
			}
		}
		if e.Status == http.StatusRequestEntityTooLarge && len(e.Body) > maxBody {
			return nil
		}
		return errors.New("refused, although the document allows it")
	}
	return nil
}

// ExtensionBefore marks a parameter whose time must be before that of another parameter, which defaults to now.
const ExtensionBefore = "x-before"

// ExtensionExcludes marks a parameter that excludes another one.
const ExtensionExcludes = "x-excludes"

// beyondTheDocument reports whether a service may refuse the value of a parameter although it matches the schema: a page token
// that it did not issue, an unknown time zone, a parameter that excludes another, or a time that is not before another.
func beyondTheDocument(p *openapi3.Parameter, given url.Values) bool {
	if !given.Has(p.Name) {
		return false
	}
	if p.Schema.Value.Format == "page-token" {
		return true
	}
	if p.Schema.Value.Format == "time-zone" {
		_, err := time.LoadLocation(given.Get(p.Name))
		return err != nil || given.Get(p.Name) == "" || given.Get(p.Name) == "Local"
	}
	if other, ok := p.Extensions[ExtensionExcludes].(string); ok {
		return given.Has(other)
	}
	other, ok := p.Extensions[ExtensionBefore].(string)
	if !ok {
		return false
	}
	from, err := time.Parse(time.RFC3339, given.Get(p.Name))
	to := time.Now()
	if given.Has(other) {
		var errTo error
		to, errTo = time.Parse(time.RFC3339, given.Get(other))
		err = errors.Join(err, errTo)
	}
	return err == nil && !from.Before(to)
}

// checkAnswer returns all violations of the document in an answer.
func checkAnswer(ctx context.Context, input *openapi3filter.RequestValidationInput, e Exchange) error {
	ref := input.Route.Operation.Responses.Status(e.Status)
	if ref == nil {
		return fmt.Errorf("status %d is not documented", e.Status)
	}
	violations := make([]error, 0, 2)
	for name, header := range ref.Value.Headers {
		// The library does not require headers of a 304 or of answers to HEAD.
		if values := e.Header.Values(name); len(values) != 1 && header.Value.Required {
			violations = append(violations, fmt.Errorf("header %s appears %d times", name, len(values)))
		}
	}
	if len(ref.Value.Content) == 0 {
		if len(e.Answer) > 0 {
			violations = append(violations, errors.New("a body, but none is documented"))
		}
		return errors.Join(violations...)
	}
	media, _, err := mime.ParseMediaType(e.Header.Get("Content-Type"))
	if err != nil || ref.Value.Content[media] == nil {
		violations = append(violations, fmt.Errorf("media type %q, want one of %q", e.Header.Get("Content-Type"), slices.Collect(maps.Keys(ref.Value.Content))))
	}
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: e.Status, Header: e.Header, Options: &openapi3filter.Options{
			IncludeResponseStatus: true, MultiError: true,
			ExcludeResponseBody: strings.HasPrefix(media, "text/") || strings.HasPrefix(media, "image/") || media == "application/openmetrics-text" || media == "application/x-ndjson" || e.Request.Method == http.MethodHead,
		},
	}
	answer.SetBodyBytes(e.Answer)
	return errors.Join(append(violations, openapi3filter.ValidateResponse(ctx, answer))...)
}

// checkProblem checks that the answer is a problem document with the given status.
func (d *Document) checkProblem(e Exchange, status int) error {
	if e.Status != status || e.Header.Get("Content-Type") != problem.ContentType {
		return fmt.Errorf("the operation is not documented: want a problem document with status %d", status)
	}
	if status == http.StatusMethodNotAllowed && e.Header.Get("Allow") == "" {
		return errors.New("the header Allow is missing")
	}
	if e.Request.Method == http.MethodHead {
		return nil
	}
	body, err := decode(e.Answer)
	if err == nil {
		err = d.problem.VisitJSON(body, openapi3.VisitAsResponse())
	}
	return err
}
