package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// check validates an encoded document with its examples, and refuses gaps in the descriptions.
func check(ctx context.Context, encoded []byte) error {
	document, err := openapi3.NewLoader().LoadFromData(encoded)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if err := document.Validate(ctx, openapi3.EnableExamplesValidation(), openapi3.EnableSchemaPatternValidation(), openapi3.EnableSchemaDefaultsValidation()); err != nil {
		return fmt.Errorf("not valid: %w", err)
	}
	var gaps []string
	lacks := func(missing bool, at, what string) {
		if missing {
			gaps = append(gaps, at+" has no "+what)
		}
	}
	for name, ref := range document.Components.Schemas {
		gaps = append(gaps, undescribed("schema "+name, ref)...)
	}
	for path, item := range document.Paths.Map() {
		for method, o := range item.Operations() {
			at := method + " " + path
			lacks(o.Summary == "", at, "summary")
			lacks(o.Description == "", at, "description")
			lacks(o.OperationID == "", at, "id")
			lacks(len(o.Tags) == 0 || document.Tags.Get(strings.Join(o.Tags, "")) == nil, at, "tag that is described")
			for _, p := range o.Parameters {
				lacks(p.Value.Description == "", at+" parameter "+p.Value.Name, "description")
				lacks(p.Value.Required && p.Value.Example == nil, at+" parameter "+p.Value.Name, "example")
				if !p.Value.Required && p.Value.Example != nil {
					gaps = append(gaps, at+" parameter "+p.Value.Name+" is optional and has an example, which Swagger UI would send")
				}
			}
			if o.RequestBody != nil {
				for _, content := range o.RequestBody.Value.Content {
					lacks(content.Example == nil, at+" request", "example")
				}
			}
			for status, r := range o.Responses.Map() {
				lacks(*r.Value.Description == "", at+" "+status, "description")
				for media, content := range r.Value.Content {
					lacks(content.Example == nil, at+" "+status+" "+media, "example")
				}
				for header, h := range r.Value.Headers {
					lacks(h.Value.Description == "", at+" "+status+" header "+header, "description")
					lacks(h.Value.Example == nil, at+" "+status+" header "+header, "example")
					if err := h.Value.Schema.Value.VisitJSON(h.Value.Example); err != nil { // Validate does not check these
						gaps = append(gaps, fmt.Sprintf("%s %s header %s: the example: %v", at, status, header, err))
					}
				}
			}
		}
	}
	if len(gaps) > 0 {
		slices.Sort(gaps)
		return fmt.Errorf("not complete:\n  %s", strings.Join(gaps, "\n  "))
	}
	return nil
}

// undescribed returns the properties of a schema without a description.
func undescribed(at string, ref *openapi3.SchemaRef) (gaps []string) {
	for _, name := range slices.Sorted(maps.Keys(ref.Value.Properties)) {
		property := ref.Value.Properties[name]
		if property.Value.Description == "" {
			gaps = append(gaps, at+"."+name+" has no description")
		}
	}
	return gaps
}
