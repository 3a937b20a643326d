package api

import (
	"mime"
	"net/http"
	"strings"

	"github.com/accrue/accrue/pkg/increment"
)

const (
	jsonType  = "application/json"
	linesType = "application/x-ndjson" // one JSON value on each line
	// textType is JSON, too: navigator.sendBeacon sends it without a preflight request (docs/decisions/0009-beacons.md).
	textType = "text/plain"

	// keyHeader gives a request an idempotency key. It is modeled on draft-ietf-httpapi-idempotency-key-header-07, which has
	// expired.
	keyHeader = "Idempotency-Key"
	// keyHeaderPattern is the regular expression of the values that readKey takes, for the OpenAPI document.
	keyHeaderPattern = `^("[!-~]{1,255}"|[!#-~][!-~]{0,254})$`
)

// header is what the header of a request says.
type header struct {
	// key is the idempotency key, or empty.
	key string
	// lines means that the body is NDJSON.
	lines bool
	// gzip means that the body is compressed.
	gzip bool
}

// readHeader reads the header of a request, whose body may be NDJSON if it is a batch. The errors are errKey, errMediaType
// and errEncoding.
func readHeader(h http.Header, batch bool) (header, error) {
	key, err := readKey(h)
	if err != nil {
		return header{}, err
	}
	lines, err := readMediaType(h)
	if err == nil && lines && !batch {
		err = errMediaType
	}
	if err != nil {
		return header{}, err
	}
	gzip, err := readEncoding(h)
	return header{key, lines, gzip}, err
}

// readKey returns the idempotency key of the header, bare or quoted, or nothing. The error is errKey.
func readKey(h http.Header) (string, error) {
	values := h[keyHeader]
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if strings.HasPrefix(key, `"`) {
		if len(key) < 2 || !strings.HasSuffix(key, `"`) {
			return "", errKey
		}
		key = key[1 : len(key)-1]
	}
	if len(values) > 1 || increment.ValidateKey(key) != nil {
		return "", errKey
	}
	return key, nil
}

// readMediaType reports whether the body is NDJSON; otherwise it is JSON. Every other type, and every charset but UTF-8, is
// errMediaType.
func readMediaType(h http.Header) (lines bool, err error) {
	types := h["Content-Type"]
	if len(types) != 1 {
		return false, errMediaType
	}
	if types[0] == jsonType { // by far the most frequent
		return false, nil
	}
	media, parameters, err := mime.ParseMediaType(types[0])
	if err != nil || media != jsonType && media != linesType && media != textType {
		return false, errMediaType
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false, errMediaType
		}
	}
	return media == linesType, nil
}

// readEncoding reports whether the body is compressed with gzip. Every other coding, and gzip twice, is errEncoding.
func readEncoding(h http.Header) (gzip bool, err error) {
	for _, value := range h["Content-Encoding"] {
		for coding := range strings.SplitSeq(value, ",") {
			switch coding = strings.ToLower(strings.TrimSpace(coding)); {
			case coding == "" || coding == "identity":
			case coding == "gzip" && !gzip:
				gzip = true
			default:
				return false, errEncoding
			}
		}
	}
	return gzip, nil
}

// accepted returns the media types that a path takes, for the header Accept-Post.
func accepted(path string) string {
	if strings.HasSuffix(path, batchPath) {
		return jsonType + ", " + linesType + ", " + textType
	}
	return jsonType + ", " + textType
}
