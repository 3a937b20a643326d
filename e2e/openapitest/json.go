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

// decode decodes a JSON value.
func decode(text []byte) (any, error) {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return value, nil
}

// checkEncoding checks the rules for request bodies that a schema cannot express: no field appears twice, integers are written
// with digits only, nothing follows the value, and the body is uncompressed UTF-8.
func checkEncoding(header http.Header, body []byte) error {
	if len(header.Values("Content-Type")) != 1 {
		return errors.New("the header Content-Type must appear once")
	}
	if charset := strings.ToLower(header.Get("Content-Type")); strings.Contains(charset, ";") && !strings.Contains(charset, "utf-8") {
		return errors.New("the header Content-Type names a charset other than UTF-8")
	}
	if coding := header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return errors.New("the body is encoded")
	}
	if !utf8.Valid(body) {
		return errors.New("the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := checkValueEncoding(decoder); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data follows the body's value")
	}
	return nil
}

// checkValueEncoding reads and checks one value.
func checkValueEncoding(decoder *json.Decoder) error {
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
					return fmt.Errorf("field %v appears twice", name)
				}
				seen[name] = true
			}
			if err := checkValueEncoding(decoder); err != nil {
				return err
			}
		}
		if _, err := decoder.Token(); err != nil { // the closing delimiter
			return fmt.Errorf("not JSON: %w", err)
		}
	}
	return nil
}
