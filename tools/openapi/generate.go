package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/swaggo/swag"

	"github.com/accrue/accrue/pkg/problem"
)

// generalFile is the file of an API's general annotations.
const generalFile = "openapi.go"

// The media types of requests of which OpenAPI 3.0 can only say that they are text: an item on each line, and JSON.
const (
	linesType = "application/x-ndjson"
	textType  = "text/plain"
)

// texts are the media types of answers of which OpenAPI 3.0 can only say that they are text, with the names of their examples.
var texts = map[string]string{"image/svg+xml": "picture", "text/csv": "csv", linesType: "ndjson"}

// problemSchema is the name of the schema of problem documents.
const problemSchema = "Problem"

// generate returns the document of the API in the first of the folders, indented.
func generate(ctx context.Context, folders []string) ([]byte, error) {
	document, err := convert(folders)
	if err != nil {
		return nil, err
	}
	constants, err := loadConstants(ctx, folders[0])
	if err != nil {
		return nil, err
	}
	f := finisher{document: document, constants: constants}
	f.finish()
	if len(f.faults) > 0 {
		return nil, fmt.Errorf("the annotations are wrong:\n  %s", strings.Join(f.faults, "\n  "))
	}
	encoded, err := document.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if encoded, err = constants.expand(encoded); err != nil {
		return nil, err
	}
	if err := check(ctx, encoded); err != nil {
		return nil, err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, encoded, "", "  "); err != nil {
		return nil, fmt.Errorf("indent: %w", err)
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}

// convert reads the annotations and converts them to OpenAPI 3.0.
func convert(folders []string) (*openapi3.T, error) {
	parser := swag.New(swag.SetDebugger(log.New(io.Discard, "", 0)), swag.SetStrict(true))
	parser.ParseFuncBody = true // annotations may stand anywhere, not only at a handler
	if err := parser.ParseAPIMultiSearchDir(folders, generalFile, 0); err != nil {
		return nil, fmt.Errorf("read the annotations: %w", err)
	}
	encoded, err := parser.GetSwagger().MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode Swagger 2.0: %w", err)
	}
	var two openapi2.T
	if err := json.Unmarshal(encoded, &two); err != nil {
		return nil, fmt.Errorf("decode Swagger 2.0: %w", err)
	}
	three, err := openapi2conv.ToV3(&two)
	if err != nil {
		return nil, fmt.Errorf("convert: %w", err)
	}
	return three, nil
}

// The annotations for this command. None of them remains in the document.
const (
	extensionConstant  = "x-go-"               // at a schema or parameter: a keyword whose value is a constant
	extensionExample   = "x-example"           // at a parameter
	extensionExampleOf = "x-example-"          // at an operation: of its request, or of the answer of a status
	extensionHeader    = "x-header-"           // at the whole: schema and example of a header, wherever it is
	extensionProblem   = "x-problem-"          // at the whole: example of the problem of a status, which an operation adds to
	extensionConverted = "x-originalParamName" // left by the conversion
)

// finisher adds what annotations and conversion leave out.
type finisher struct {
	document  *openapi3.T
	constants *constants
	faults    []string
}

func (f *finisher) fault(format string, a ...any) {
	f.faults = append(f.faults, fmt.Sprintf(format, a...))
}

func (f *finisher) finish() {
	d := f.document
	d.Info.Contact = nil // of empty strings
	for name, ref := range d.Components.Schemas {
		if ref.Value.Description == d.Info.Description { // swag takes the last @Description of the file as that of the API
			f.fault("the API's description is that of the type %s: describe types in another file than %s", name, generalFile)
		}
	}
	// Relative to the document, so that it holds below a prefix.
	d.Servers = openapi3.Servers{{URL: ".", Description: "the service that this document was read from"}}
	d.Info.License = &openapi3.License{Name: "Apache 2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"}
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		f.schema("schema "+name, d.Components.Schemas[name])
	}
	for path, item := range d.Paths.Map() {
		for method, operation := range item.Operations() {
			f.operation(method+" "+path, operation)
		}
	}
	for name := range d.Extensions {
		delete(d.Extensions, name)
	}
}

// schema replaces names of constants by their values, in a schema and those within it.
func (f *finisher) schema(at string, ref *openapi3.SchemaRef) {
	if ref == nil || ref.Ref != "" {
		return
	}
	s := ref.Value
	s.Description = strings.ReplaceAll(s.Description, "\n", " ") // a comment's lines
	f.bounds(at, s, s.Extensions)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		f.schema(at+"."+name, s.Properties[name])
	}
	f.schema(at+"[]", s.Items)
	f.schema(at+".*", s.AdditionalProperties.Schema)
	for _, part := range s.AllOf {
		f.schema(at, part)
	}
}

// bounds sets the keywords of a schema from its x-go-… extensions.
func (f *finisher) bounds(at string, s *openapi3.Schema, extensions map[string]any) {
	for name, value := range extensions {
		keyword, ok := strings.CutPrefix(name, extensionConstant)
		if !ok {
			continue
		}
		delete(extensions, name)
		constant, _ := value.(string)
		var err error
		switch keyword {
		case "pattern":
			s.Pattern, err = f.constants.text(constant)
		case "minimum":
			s.Min, err = f.constants.number(constant)
		case "maximum":
			s.Max, err = f.constants.number(constant)
		case "minlength":
			s.MinLength, err = f.constants.count(constant)
		case "maxlength":
			var most uint64
			most, err = f.constants.count(constant)
			s.MaxLength = &most
		case "minitems":
			s.MinItems, err = f.constants.count(constant)
		case "maxitems":
			var most uint64
			most, err = f.constants.count(constant)
			s.MaxItems = &most
		case "default":
			var number *float64
			number, err = f.constants.number(constant)
			s.Default = number
		default:
			f.fault("%s: unknown keyword %s", at, keyword)
		}
		if err != nil {
			f.fault("%s: %s: %v", at, keyword, err)
		}
	}
}

func (f *finisher) operation(at string, o *openapi3.Operation) {
	o.Security = &openapi3.SecurityRequirements{} // none: IAM or a gateway in front guards the services
	for _, ref := range o.Parameters {
		f.parameter(at+" parameter "+ref.Value.Name, ref.Value)
	}
	if o.RequestBody != nil {
		delete(o.RequestBody.Value.Extensions, extensionConverted)
		for media, content := range o.RequestBody.Value.Content {
			if media == linesType {
				content.Schema = openapi3.NewStringSchema().WithFormat("ndjson").NewRef()
				content.Example = o.Extensions[extensionExampleOf+"lines"]
				continue
			}
			if media == textType {
				encoded, err := json.Marshal(o.Extensions[extensionExampleOf+"request"])
				if err != nil {
					f.fault("%s: example: %v", at, err)
				}
				content.Schema = openapi3.NewStringSchema().WithFormat("json").NewRef()
				content.Example = string(encoded)
				continue
			}
			content.Example = o.Extensions[extensionExampleOf+"request"]
			f.close(content.Schema)
		}
	}
	for status, ref := range o.Responses.Map() {
		f.response(at+" "+status, status, ref.Value, o)
	}
	for name := range o.Extensions {
		if strings.HasPrefix(name, extensionExampleOf) {
			delete(o.Extensions, name)
		}
	}
}

func (f *finisher) parameter(at string, p *openapi3.Parameter) {
	f.bounds(at, p.Schema.Value, p.Extensions)
	if example, ok := p.Extensions[extensionExample]; ok {
		delete(p.Extensions, extensionExample)
		p.Example = example
		if text, isText := example.(string); isText && p.Schema.Value.Type.Is("integer") {
			number, err := strconv.Atoi(text)
			if err != nil {
				f.fault("%s: example: %v", at, err)
			}
			p.Example = number
		}
	}
	if p.In == openapi3.ParameterInHeader {
		f.header(at, p.Name, p)
	}
}

// header completes a header of a request or an answer from the general annotations.
func (f *finisher) header(at, name string, p *openapi3.Parameter) {
	annotation, ok := f.document.Extensions[extensionHeader+strings.ToLower(name)]
	if !ok {
		return
	}
	var details struct {
		Schema  openapi3.Schema `json:"schema"`
		Example any             `json:"example"`
	}
	encoded, err := json.Marshal(annotation)
	if err == nil {
		err = json.Unmarshal(encoded, &details)
	}
	if err != nil {
		f.fault("%s: %v", at, err)
		return
	}
	details.Schema.Type = p.Schema.Value.Type
	f.bounds(at, &details.Schema, details.Schema.Extensions)
	p.Schema = details.Schema.NewRef()
	p.Example = details.Example
}

// response sets the media type, headers and example of an answer.
func (f *finisher) response(at, status string, r *openapi3.Response, o *openapi3.Operation) {
	for name, ref := range r.Headers {
		ref.Value.Required = true // always part of such an answer
		f.header(at+" header "+name, name, &ref.Value.Parameter)
	}
	example := o.Extensions[extensionExampleOf+status]
	for media, content := range r.Content {
		if name, ok := texts[media]; ok {
			if strings.HasSuffix(content.Schema.Ref, "/"+problemSchema) {
				delete(r.Content, media) // problems are documents, whatever was asked for
				continue
			}
			content.Schema, content.Example = openapi3.NewStringSchema().NewRef(), o.Extensions[extensionExampleOf+name]
			continue
		}
		if !strings.HasSuffix(content.Schema.Ref, "/"+problemSchema) {
			content.Example = example
			continue
		}
		delete(r.Content, media)
		document, err := problemExample(status, *r.Description, f.document.Extensions[extensionProblem+status], example)
		if err != nil {
			f.fault("%s: %v", at, err)
		}
		r.Content[problem.ContentType] = &openapi3.MediaType{Schema: content.Schema, Example: document}
	}
}

// problemExample returns the problem document that the services answer with. Its members are those of the annotations, the
// later ones first; the description of the answer is its detail if no annotation has one.
func problemExample(status, description string, annotations ...any) (map[string]any, error) {
	code, err := strconv.Atoi(status)
	if err != nil || http.StatusText(code) == "" {
		return nil, fmt.Errorf("unknown status %s", status)
	}
	encoded, err := json.Marshal(problem.New(code, description))
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	example := make(map[string]any)
	if err := json.Unmarshal(encoded, &example); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	for _, annotation := range annotations {
		members, _ := annotation.(map[string]any)
		maps.Copy(example, members)
	}
	maps.DeleteFunc(example, func(_ string, value any) bool { return value == "" })
	return example, nil
}

// close closes the objects of a request, since unknown fields are refused.
func (f *finisher) close(ref *openapi3.SchemaRef) {
	if ref == nil {
		return
	}
	if s := ref.Value; s.Type.Is("object") && s.AdditionalProperties.Schema == nil {
		no := false
		s.AdditionalProperties.Has = &no
	}
	for _, property := range ref.Value.Properties {
		f.close(property)
	}
	f.close(ref.Value.Items)
}
