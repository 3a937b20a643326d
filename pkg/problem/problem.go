// Package problem is the form of every error that a service answers over HTTP: a problem document (RFC 9457) that points
// to each fault. A handler makes one and gives it to Write; nothing else in a service writes an error answer.
package problem

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// ContentType is the media type of a problem document.
const ContentType = "application/problem+json"

// NothingCounted is what the detail of a 503 says if nothing of the request was counted, nor will be. Without it, that is
// not known.
const NothingCounted = "Nothing was counted."

// The details of the problems that every service answers alike.
const (
	NoPath   = "There is no such path."
	NoMethod = "This path does not support the method."
	Internal = "An internal error occurred."
)

// Document is a problem document. Its type is "about:blank" (RFC 9457, section 4.2.1): the status says what kind of problem
// it is, and Errors say where.
//
//	@Description	A problem document (RFC 9457).
type Document struct { //nolint:errname // RFC 9457 calls it a problem document
	// Type is always about:blank: the status says what kind of problem it is.
	Type string `json:"type" validate:"required" enums:"about:blank"`
	// Title is the status in words.
	Title string `json:"title" validate:"required"`
	// Status is the HTTP status of the answer.
	Status int `json:"status" validate:"required" minimum:"400" maximum:"599"`
	// Detail is a sentence for the person who wrote the request.
	Detail string `json:"detail,omitempty"`
	// Errors are the faults, in the order in which they stand in the request.
	Errors []Fault `json:"errors,omitempty"`

	// RetryAfter, if positive, is how long a client should wait before it tries again: the header Retry-After, in
	// whole seconds, rounded up.
	RetryAfter time.Duration `json:"-"`
	// Allow, if not empty, are the methods that the resource has: the header Allow of a 405.
	Allow string `json:"-"`
} //	@name	Problem

// Fault is one thing that is wrong with a request.
//
//	@Description	One thing that is wrong with a request.
type Fault struct {
	// Pointer says where in the body: a JSON pointer in its URI fragment form (RFC 6901, section 6), as in the example of
	// RFC 9457: "#/increments/3/value", and "#" for the whole body.
	Pointer string `json:"pointer,omitempty"`
	// Detail says what would have been right.
	Detail string `json:"detail" validate:"required"`
	// Parameter, in place of Pointer, names a parameter of the query or a header.
	Parameter string `json:"parameter,omitempty"`
} //	@name	Fault

// New returns a problem of the given status with a sentence of detail and the faults that make it up.
func New(status int, detail string, faults ...Fault) *Document {
	return &Document{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Errors: faults}
}

// Unavailable returns a 503 that asks the client to come again after the given time.
func Unavailable(detail string, retryAfter time.Duration) *Document {
	d := New(http.StatusServiceUnavailable, detail)
	d.RetryAfter = retryAfter
	return d
}

// Error makes a Document an error, so that it can travel through functions that return one.
func (d *Document) Error() string { return d.Title + ": " + d.Detail }

// Write answers with the document.
func (d *Document) Write(w http.ResponseWriter) {
	body, err := json.Marshal(d)
	if err != nil { // strings and numbers alone: it cannot happen, and an empty body still has its status
		body = nil
	}
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	if d.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((d.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if d.Allow != "" {
		h.Set("Allow", d.Allow)
	}
	w.WriteHeader(d.Status)
	_, _ = w.Write(body) // the client is gone: nobody to tell
}
