// Package problem is the form of every error that a service answers over HTTP: a problem document (RFC 9457) that points
// to each fault. docs/problems.md has a section for each type.
package problem

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// ContentType is the media type of a problem document.
const ContentType = "application/problem+json"

// NothingCounted is the sentence that ends the detail of a problem of which CountedNo is true.
const NothingCounted = "Nothing was counted."

// The values of Document.Counted.
const (
	// CountedNo means that nothing of the request was counted, nor will be.
	CountedNo = "no"
	// CountedUnknown means that the request may have been counted.
	CountedUnknown = "unknown"
)

// The details of the problems that all services have in common.
const (
	NoPath   = "There is no such path."
	NoMethod = "This path does not support the method."
	Internal = "An internal error occurred."
)

// untyped is the type of a problem that its status describes well enough (RFC 9457, section 4.2.1).
const untyped = "about:blank"

// TypeOf returns the URI of a type of problem, which docs/problems.md describes in the section of that name.
func TypeOf(name string) string {
	return "https://github.com/accrue/accrue/blob/main/docs/problems.md#" + name
}

// Document is a problem document.
//
//	@Description	A problem document (RFC 9457).
type Document struct {
	// Type is the URI of the page that describes the problem, or about:blank if the status says enough.
	Type string `json:"type" validate:"required"`
	// Title is the status in words.
	Title string `json:"title" validate:"required"`
	// Status is the HTTP status of the answer.
	Status int `json:"status" validate:"required" minimum:"400" maximum:"599"`
	// Detail is a sentence for the person who wrote the request.
	Detail string `json:"detail,omitempty"`
	// Errors are the faults, in the order in which they stand in the request.
	Errors []Fault `json:"errors,omitempty"`
	// Counted says whether a post may have been counted: no, or unknown.
	Counted string `json:"counted,omitempty" enums:"no,unknown"`

	// RetryAfter, if positive, is how long a client should wait before it retries: the header Retry-After, in whole seconds,
	// rounded up.
	RetryAfter time.Duration `json:"-"`
} //	@name	Problem

// Fault is one fault of a request.
//
//	@Description	One thing that is wrong with a request.
type Fault struct {
	// Pointer says where in the body: a JSON pointer in its URI fragment form (RFC 6901, section 6), such as
	// "#/increments/3/value", or "#" for the whole body. The items of an NDJSON body are numbered from 0: "#/3/value".
	Pointer string `json:"pointer,omitempty"`
	// Detail says what would have been right.
	Detail string `json:"detail" validate:"required"`
	// Parameter, in place of Pointer, names a parameter of the query or a header.
	Parameter string `json:"parameter,omitempty"`
} //	@name	Fault

// New returns a problem of the given status with a sentence of detail and the faults that make it up.
func New(status int, detail string, faults ...Fault) *Document {
	return &Document{Type: untyped, Title: http.StatusText(status), Status: status, Detail: detail, Errors: faults}
}

// Unavailable returns a 503 that asks the client to retry after the given time.
func Unavailable(detail string, retryAfter time.Duration) *Document {
	d := New(http.StatusServiceUnavailable, detail)
	d.RetryAfter = retryAfter
	return d
}

// Write answers with the document.
func (d *Document) Write(w http.ResponseWriter) {
	body, err := json.Marshal(d)
	if err != nil {
		body = nil // cannot happen: strings and numbers only
	}
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	if d.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((d.RetryAfter+time.Second-1)/time.Second), 10))
	}
	// A client that is still sending its body needs the length to know where the answer ends.
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(d.Status)
	_, _ = w.Write(body) // a client that is gone needs no answer
}
