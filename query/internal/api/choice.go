package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/query/internal/view"
)

const (
	// namesLength bounds the names that a request may choose, and so that of a URL: a hundred of the longest, maxNames of the
	// shortest.
	namesLength  = 100*(increment.MaxNameLength+1) - 1
	maxNames     = (namesLength + 1) / (increment.MinNameLength + 1)
	namesPattern = `^[a-z_]{3,15}(,[a-z_]{3,15})*$`

	parameterNames, parameterPrefix = "names", "prefix"
)

// choice is which tags a request is about: those of some names, or those that have a prefix.
type choice struct {
	names  []string // sorted; nil for all
	prefix string
}

// parameters adds the parameters of a choice to those of a request.
func (t *choice) parameters(of map[string]parameter) {
	of[parameterPrefix] = readText(&t.prefix)
	of[parameterNames] = func(value string) string {
		names := strings.Split(value, ",")
		if len(value) > namesLength || slices.ContainsFunc(names, func(name string) bool { return increment.ValidateName(name) != nil }) {
			return fmt.Sprintf("must be names of tags, separated by commas, and not longer than %d characters, a hundred of the longest names", namesLength)
		}
		slices.Sort(names)
		t.names = slices.Compact(names)
		return ""
	}
}

// fault returns what is wrong with a choice as a whole.
func (t *choice) fault() *problem.Document {
	if t.names != nil && t.prefix != "" {
		return wrongParameter(problem.Fault{Parameter: parameterPrefix, Detail: "excludes names"})
	}
	return nil
}

// all reports whether every tag is chosen.
func (t *choice) all() bool { return t.names == nil && t.prefix == "" }

// of returns those of some tags that are chosen. Both are sorted by name.
func (t *choice) of(tags []view.Tag) []view.Tag {
	if t.names == nil {
		return withPrefix(tags, t.prefix)
	}
	chosen := make([]view.Tag, 0, len(t.names))
	for _, name := range t.names {
		if i, found := search(tags, name); found {
			chosen = append(chosen, tags[i])
		}
	}
	return chosen
}
