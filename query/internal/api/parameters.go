package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/accrue/accrue/pkg/problem"
)

// parameter takes the one value that a request gives it, and returns what would have been right, or nothing.
type parameter func(value string) (fault string)

// readParameters gives each parameter of a request to whom it is for, in the order of their names, and returns nil, or a
// problem that names every one that is wrong, unknown, or given twice.
func readParameters(r *http.Request, known map[string]parameter) *problem.Document {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem.New(http.StatusBadRequest, "the query is malformed: "+err.Error())
	}
	d := problem.New(http.StatusBadRequest, "a parameter is wrong")
	for _, name := range slices.Sorted(maps.Keys(values)) {
		read, ok := known[name]
		var fault string
		switch {
		case !ok:
			fault = "is not known"
		case len(values[name]) > 1:
			fault = "must be given once"
		default:
			fault = read(values[name][0])
		}
		if fault != "" {
			d.Errors = append(d.Errors, problem.Fault{Parameter: name, Detail: fault})
		}
	}
	if len(d.Errors) > 0 {
		return d
	}
	return nil
}

// readPageSize is the parameter page_size, kept in size.
func readPageSize(size *int) parameter {
	return func(value string) string {
		n, err := strconv.Atoi(value)
		if err != nil || n < minPageSize || n > maxPageSize {
			return fmt.Sprintf("must be an integer from %d to %d", minPageSize, maxPageSize)
		}
		*size = n
		return ""
	}
}
