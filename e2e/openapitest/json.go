package openapitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

// decode decodes a whole JSON value, with numbers as they are written.
func decode(text []byte) (any, error) {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return value, nil
}

// checkForm returns what is wrong with the form of a request's body: what the documents say in words, since a schema is of
// values and not of how they are written. There are no fields given twice, no other way to write an integer than digits,
// nothing after the value, and the body is plain UTF-8.
func checkForm(header http.Header, body []byte) error {
	if len(header.Values("Content-Type")) != 1 {
		return errors.New("there is not one Content-Type")
	}
	if charset := strings.ToLower(header.Get("Content-Type")); strings.Contains(charset, ";") && !strings.Contains(charset, "utf-8") {
		return errors.New("the body is not UTF-8 by its header")
	}
	if coding := header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return errors.New("the body is encoded")
	}
	if !utf8.Valid(body) {
		return errors.New("the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := checkValue(decoder); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the body's value")
	}
	return nil
}

// checkValue reads one value and returns what is wrong with its form.
func checkValue(decoder *json.Decoder) error {
	token, err := decoder.Token()
	if err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	switch token := token.(type) {
	case json.Number:
		if strings.ContainsAny(token.String(), ".eE") {
			return fmt.Errorf("%s is not written as an integer", token)
		}
	case json.Delim:
		seen := make(map[any]bool)
		for decoder.More() {
			if token == '{' {
				name, err := decoder.Token()
				if err != nil {
					return fmt.Errorf("not JSON: %w", err)
				}
				if seen[name] {
					return fmt.Errorf("field %v is given twice", name)
				}
				seen[name] = true
			}
			if err := checkValue(decoder); err != nil {
				return err
			}
		}
		if _, err := decoder.Token(); err != nil { // the end
			return fmt.Errorf("not JSON: %w", err)
		}
	}
	return nil
}
