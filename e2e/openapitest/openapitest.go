// Package openapitest holds what a service does to what its OpenAPI document says: requests that the document allows are
// not refused, others are, and every answer is one that it describes.
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

// Document is a service's document.
type Document struct {
	spec   *openapi3.T
	router routers.Router
	// problem is the schema of what is answered where the document has no operation.
	problem *openapi3.Schema
}

// Read reads a document in JSON and validates it with its examples.
func Read(ctx context.Context, document []byte) (*Document, error) {
	spec, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	if err := spec.Validate(ctx, openapi3.EnableExamplesValidation()); err != nil {
		return nil, fmt.Errorf("validate the document: %w", err)
	}
	router, err := gorillamux.NewRouter(spec)
	if err != nil {
		return nil, fmt.Errorf("route by the document: %w", err)
	}
	schema := spec.Components.Schemas["Problem"]
	if schema == nil {
		return nil, errors.New("the document has no problem documents")
	}
	// A client must expect fields that are new. A test must not: they would be undocumented.
	for _, s := range spec.Components.Schemas {
		if len(s.Value.Properties) > 0 && s.Value.AdditionalProperties.Schema == nil {
			closed := false
			s.Value.AdditionalProperties.Has = &closed
		}
	}
	return &Document{spec: spec, router: router, problem: schema.Value}, nil
}

// Spec is the document itself. It must not be changed.
func (d *Document) Spec() *openapi3.T { return d.spec }

// Exchange is one request and its answer.
type Exchange struct {
	// Request is as it was sent. Its body is not read.
	Request *http.Request
	// Body is the request's.
	Body []byte
	// Status, Header and Answer are the answer's. An event stream's Answer may be cut off anywhere.
	Status int
	Header http.Header
	Answer []byte
}

// maxBody is the size of a body, in bytes, beyond which services answer 413: no schema can say it.
const maxBody = 1 << 20

// Check returns every way in which an exchange departs from the document, joined, or nil.
func (d *Document) Check(ctx context.Context, e Exchange) error {
	if err := d.check(ctx, e); err != nil {
		return fmt.Errorf("%s %s %.200s: %d %.300s: %w", e.Request.Method, e.Request.URL.RequestURI(), e.Body, e.Status, e.Answer, err)
	}
	return nil
}

func (d *Document) check(ctx context.Context, e Exchange) error {
	if e.Request.Method == http.MethodOptions && e.Request.Header.Get("Access-Control-Request-Method") != "" {
		return nil // answered by CORS, for all paths alike
	}
	asked := e.Request.Clone(ctx)
	if asked.Method == http.MethodHead {
		asked.Method = http.MethodGet
	}
	asked.Body = io.NopCloser(bytes.NewReader(e.Body))
	asked.ContentLength = int64(len(e.Body))
	route, parameters, err := d.router.FindRoute(asked)
	switch {
	case errors.Is(err, routers.ErrMethodNotAllowed):
		return d.checkProblem(e, http.StatusMethodNotAllowed)
	case err != nil:
		if notDescribed(e.Request.URL.Path) {
			return nil
		}
		return d.checkProblem(e, http.StatusNotFound)
	}
	for name, value := range parameters { // the router leaves them as they were sent
		if parameters[name], err = url.PathUnescape(value); err != nil {
			return fmt.Errorf("path: %w", err)
		}
	}
	input := &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true, SkipSettingDefaults: true},
	}
	return errors.Join(checkRefusal(e, route, checkRequest(ctx, input, e.Body)), checkAnswer(ctx, input, e))
}

// notDescribed says whether a path is for others than clients of the API: the parts of a page are for that page alone, and
// metrics, which a service need not have, for Prometheus.
func notDescribed(path string) bool {
	return strings.HasPrefix(path, openapi.PagePath) || strings.HasPrefix(path, "/board/") || path == "/metrics"
}

// checkRequest returns what the document does not allow about a request.
func checkRequest(ctx context.Context, input *openapi3filter.RequestValidationInput, body []byte) error {
	faults := []error{openapi3filter.ValidateRequest(ctx, input)}
	values, err := url.ParseQuery(input.Request.URL.RawQuery)
	faults = append(faults, err)
	for name, given := range values {
		known := input.Route.Operation.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) != nil
		if RefusesParameters(input.Route.Method, input.Route.Operation) && (!known || len(given) > 1) {
			faults = append(faults, fmt.Errorf("parameter %s is not known, or given twice", name))
		}
	}
	for _, ref := range input.Route.Operation.Parameters {
		if p := ref.Value; p.In == openapi3.ParameterInHeader && p.Schema.Value.Pattern != "" && len(input.Request.Header.Values(p.Name)) > 1 {
			faults = append(faults, fmt.Errorf("header %s is given twice", p.Name))
		}
	}
	if input.Route.Operation.RequestBody != nil {
		faults = append(faults, checkForm(input.Request.Header, body))
	}
	return errors.Join(faults...)
}

// RefusesParameters says whether an operation refuses parameters that it does not know: one that reads does, if it refuses
// anything at all. A post is judged by its body.
func RefusesParameters(method string, o *openapi3.Operation) bool {
	return method == http.MethodGet && o.Responses.Status(http.StatusBadRequest) != nil
}

// refusals are the statuses that say that the request is wrong.
func refusals() []int {
	return []int{
		http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity,
	}
}

// checkRefusal returns an error if a request that the document allows was refused, or another was not.
func checkRefusal(e Exchange, route *routers.Route, invalid error) error {
	refused := slices.Contains(refusals(), e.Status)
	switch {
	case invalid != nil && (e.Status < 400 || e.Status > 499) && e.Status != http.StatusServiceUnavailable: // which looks at nothing
		return fmt.Errorf("not refused, although %w", invalid)
	case invalid == nil && refused:
		for _, ref := range route.Operation.Parameters {
			if e.Status == http.StatusBadRequest && judgedByTheService(ref.Value, e.Request.URL.Query()) {
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

// extensionBefore is of a parameter whose time must be before that of another, which is now if it is not given.
const extensionBefore = "x-before"

// judgedByTheService says whether the document leaves it to the service whether what was given for a parameter is right:
// what a token holds, and what time it is.
func judgedByTheService(p *openapi3.Parameter, given url.Values) bool {
	if !given.Has(p.Name) {
		return false
	}
	if p.Schema.Value.Format == "page-token" {
		return true
	}
	other, ok := p.Extensions[extensionBefore].(string)
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

// checkAnswer returns what the document does not describe about an answer.
func checkAnswer(ctx context.Context, input *openapi3filter.RequestValidationInput, e Exchange) error {
	ref := input.Route.Operation.Responses.Status(e.Status)
	if ref == nil {
		return fmt.Errorf("status %d is not described", e.Status)
	}
	faults := make([]error, 0, 2)
	for name, header := range ref.Value.Headers {
		// The library asks for no headers of a 304, nor of any answer to HEAD.
		if values := e.Header.Values(name); len(values) != 1 && header.Value.Required {
			faults = append(faults, fmt.Errorf("header %s is there %d times", name, len(values)))
		}
	}
	if len(ref.Value.Content) == 0 {
		if len(e.Answer) > 0 {
			faults = append(faults, errors.New("there is a body, and none is described"))
		}
		return errors.Join(faults...)
	}
	media, _, err := mime.ParseMediaType(e.Header.Get("Content-Type"))
	if err != nil || ref.Value.Content[media] == nil {
		faults = append(faults, fmt.Errorf("the body is %q, not of %q", e.Header.Get("Content-Type"), slices.Collect(maps.Keys(ref.Value.Content))))
	}
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: e.Status, Header: e.Header, Options: &openapi3filter.Options{
			IncludeResponseStatus: true, MultiError: true,
			ExcludeResponseBody: strings.HasPrefix(media, "text/") || e.Request.Method == http.MethodHead,
		},
	}
	answer.SetBodyBytes(e.Answer)
	return errors.Join(append(faults, openapi3filter.ValidateResponse(ctx, answer))...)
}

// checkProblem returns an error unless the answer is a problem document of a status.
func (d *Document) checkProblem(e Exchange, status int) error {
	if e.Status != status || e.Header.Get("Content-Type") != problem.ContentType {
		return fmt.Errorf("the document has nothing there: want a problem document of %d", status)
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
