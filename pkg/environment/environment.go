// Package environment reads a service's settings from environment variables into its one config struct, once, at start.
package environment

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Config is a service's settings. Validate returns every fault at once, joined, each with the variable's name.
type Config interface{ Validate() error }

// Of turns lines of the form NAME=value, as os.Environ returns them, into variables for Load.
func Of(environ []string) map[string]string { return env.ToMap(environ) }

// Load fills config, a pointer to a struct whose fields carry the tags of github.com/caarlos0/env, from variables, and
// validates it. The error names every variable that is missing or wrong, one a line.
func Load(variables map[string]string, config Config) error {
	// A variable that is set to nothing counts as not set, as in compose files and Terraform.
	set := make(map[string]string, len(variables))
	for name, value := range variables {
		if strings.TrimSpace(value) != "" {
			set[name] = value
		}
	}
	var faults []error
	var several env.AggregateError
	switch err := env.ParseWithOptions(config, env.Options{Environment: set}); {
	case errors.As(err, &several):
		faults = several.Errors
	case err != nil:
		faults = []error{err}
	}
	// Fields that did not parse hold their zero value, and Validate may find that wrong as well: only one of the two
	// would help.
	if len(faults) == 0 {
		faults = []error{config.Validate()}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	return nil
}
