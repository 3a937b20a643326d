package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
)

const (
	// A page has pageSize items unless the request asks for another number; more than maxPageSize are cut to that.
	pageSize, maxPageSize = 100, 1000

	parameterOrder, parameterPageSize, parameterPageToken = "order_by", "page_size", "page_token"
)

// parameter reads the value of a parameter, and returns what would have been right, or "" if the value is.
type parameter func(value string) (fault string)

// readParameters reads the parameters of a request, in the order of their names. It returns nil, or a problem that names
// every parameter that is wrong, unknown or repeated.
func readParameters(r *http.Request, known map[string]parameter) *problem.Document {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem.New(http.StatusBadRequest, "the query is malformed: "+err.Error())
	}
	var faults []problem.Fault
	for _, name := range slices.Sorted(maps.Keys(values)) {
		read, ok := known[name]
		var fault string
		switch {
		case !ok:
			fault = "is unknown"
		case len(values[name]) > 1:
			fault = "must be given once"
		default:
			fault = read(values[name][0])
		}
		if fault != "" {
			faults = append(faults, problem.Fault{Parameter: name, Detail: fault})
		}
	}
	switch {
	case len(faults) == 0:
		return nil
	case len(known) == 0:
		return problem.New(http.StatusBadRequest, "this resource has no parameters", faults...)
	default:
		return wrongParameter(faults...)
	}
}

func wrongParameter(faults ...problem.Fault) *problem.Document {
	return problem.New(http.StatusBadRequest, "a parameter is wrong", faults...)
}

// readText returns the parameter that is any text.
func readText(text *string) parameter {
	return func(value string) string {
		*text = value
		return ""
	}
}

// readContributor returns the parameter that is the id of a contributor, or the beginning of one.
func readContributor(id *string) parameter {
	return func(value string) string {
		if err := increment.ValidateContributor(value); err != nil {
			return err.Error()
		}
		*id = value
		return ""
	}
}

// readTier returns the parameter that is a tier.
func readTier(tier *int64) parameter {
	return func(value string) string {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 1 {
			return "must be a positive integer"
		}
		*tier = n
		return ""
	}
}

// readChoice returns the parameter that is one of some values.
func readChoice(choice *string, of ...string) parameter {
	return func(value string) string {
		if !slices.Contains(of, value) {
			return "must be one of " + strings.Join(of, ", ")
		}
		*choice = value
		return ""
	}
}

// readPageSize returns the parameter page_size. A number above the limit is cut.
func readPageSize(size *int, limit int) parameter {
	return func(value string) string {
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n == 0 {
			return fmt.Sprintf("must be a positive integer; a page has %d items at most", limit)
		}
		*size = min(int(n), limit)
		return ""
	}
}

// dateTime is the form of a time in RFC 3339. time.Parse accepts more: https://go.dev/issue/54580.
var dateTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)

// readTime returns the parameter that is a time. It stays nil unless it is given.
func readTime(at **time.Time) parameter {
	return func(value string) string {
		t, err := time.Parse(time.RFC3339, value)
		if err != nil || !dateTime.MatchString(value) {
			return "must be a time as in RFC 3339, such as 2026-11-23T08:00:00Z, with + written as %2B"
		}
		t = t.UTC()
		*at = &t
		return ""
	}
}

// readZone returns the parameter that is the name of a time zone.
func readZone(zone **time.Location) parameter {
	return func(value string) string {
		found, err := time.LoadLocation(value)
		if err != nil || value == "" || value == "Local" { // which depend on this process
			return "must be a time zone of the IANA database, such as Europe/Berlin"
		}
		*zone = found
		return ""
	}
}
