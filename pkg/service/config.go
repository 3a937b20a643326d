package service

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"github.com/accrue/accrue/pkg/logging"
)

// Config holds the settings that all services share. Each service embeds it in its own Config.
type Config struct {
	// Project is the id of the Google Cloud project.
	Project string `env:"GOOGLE_CLOUD_PROJECT,required"`
	// PubSubEmulatorHost, host:port, replaces Pub/Sub if it is set.
	PubSubEmulatorHost string `env:"PUBSUB_EMULATOR_HOST"`
	// Port serves HTTP; 0 takes a free port.
	Port int `env:"PORT" envDefault:"8080"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info"`
	// CORSOrigins are the origins whose pages may use the service from a browser: * for all, or a list of at most 100, such
	// as https://example.com,http://localhost:3000. CORS restricts browsers only.
	CORSOrigins []string `env:"CORS_ORIGINS" envDefault:"*"`
	// Hide lists what is served to the same machine only: metrics, and contributors with their recognitions.
	Hide []string `env:"HIDE"`
}

// Rules returns the rules of the shared settings.
func (c *Config) Rules() []Rule {
	return []Rule{
		{"GOOGLE_CLOUD_PROJECT", c.Project != "", "the id of a Google Cloud project, such as my-project"},
		{"PUBSUB_EMULATOR_HOST", isHostPort(c.PubSubEmulatorHost), "host:port, such as localhost:8085"},
		{"PORT", c.Port >= 0 && c.Port <= 65535, "a number from 0 to 65535, such as 8080"},
		{"LOG_LEVEL", isLevel(c.LogLevel), "debug, info, warn or error"},
		{"CORS_ORIGINS", validOrigins(c.CORSOrigins), "* or up to 100 origins separated by commas, such as https://example.com,http://localhost:3000"},
		{"HIDE", canHide(c.Hide), "metrics, contributors or both, separated by a comma"},
	}
}

// Firestore holds the settings of the services that use Firestore.
type Firestore struct {
	// FirestoreEmulatorHost, host:port, replaces Firestore if it is set.
	FirestoreEmulatorHost string `env:"FIRESTORE_EMULATOR_HOST"`
	// Database is the id of the Firestore database.
	Database string `env:"FIRESTORE_DATABASE" envDefault:"(default)"`
	// CollectionPrefix comes before the names of all collections, for a database that others use too. Empty means none.
	CollectionPrefix string `env:"COLLECTION_PREFIX"`
}

// Rules returns the rules of the Firestore settings.
func (f *Firestore) Rules() []Rule {
	return []Rule{
		{"FIRESTORE_EMULATOR_HOST", isHostPort(f.FirestoreEmulatorHost), "host:port, such as localhost:8081"},
		{"FIRESTORE_DATABASE", f.Database != "" && !strings.Contains(f.Database, "/"), "the id of a database, such as (default)"},
		{"COLLECTION_PREFIX", ValidPrefix(f.CollectionPrefix), "up to 63 letters, digits and underscores, with a letter first, such as accrue_"},
	}
}

// prefix matches a prefix of the names of collections. Firestore reserves names between two underscores.
var prefix = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_]{0,62})?$`)

// ValidPrefix reports whether COLLECTION_PREFIX may be s.
func ValidPrefix(s string) bool { return prefix.MatchString(s) }

// Rule says what one environment variable must be.
type Rule struct {
	// Variable is its name.
	Variable string
	// Holds reports whether the value follows the rule.
	Holds bool
	// Want completes the sentence "VARIABLE must be …" and ends with an example.
	Want string
}

// PubSubID returns the rule for a variable that holds the id of a topic or subscription.
func PubSubID(variable, id, example string) Rule {
	return Rule{variable, pubsubID.MatchString(id), "an id of 3 to 255 letters, digits, dashes and the like, such as " + example}
}

// pubsubID is https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names.
var pubsubID = regexp.MustCompile(`^[A-Za-z][-A-Za-z0-9._~+%]{2,254}$`)

func isHostPort(s string) bool {
	_, _, err := net.SplitHostPort(s)
	return err == nil || s == ""
}

func isLevel(s string) bool {
	_, ok := logging.Level(s)
	return ok
}

// Configuration is implemented by a pointer to a struct whose fields carry the tags of github.com/caarlos0/env.
type Configuration interface {
	// Rules returns exactly one rule for each variable.
	Rules() []Rule
}

// Environment converts lines of the form NAME=value, as os.Environ returns them, into variables for Load.
func Environment(environ []string) map[string]string { return env.ToMap(environ) }

// Load fills config from variables and checks it. Spaces around values and around the items of lists are ignored, and a
// variable that is set to nothing counts as not set, as in compose files and Terraform. The error has a line for each
// variable that is missing or wrong.
func Load(variables map[string]string, config Configuration) error {
	set := make(map[string]string, len(variables))
	for name, value := range variables {
		items := strings.Split(value, ",")
		for i := range items {
			items[i] = strings.TrimSpace(items[i])
		}
		if value = strings.Join(items, ","); value != "" {
			set[name] = value
		}
	}
	malformed, err := parse(set, config)
	if err != nil {
		return err
	}
	var faults []error
	for _, rule := range config.Rules() {
		if rule.Holds && !malformed[rule.Variable] {
			continue
		}
		delete(malformed, rule.Variable)
		if value, ok := set[rule.Variable]; ok && strings.HasSuffix(rule.Variable, "_SECRETS") {
			faults = append(faults, fmt.Errorf("%s must be %s; it is not shown", rule.Variable, rule.Want))
		} else if ok {
			faults = append(faults, fmt.Errorf("%s must be %s; it is %.100q", rule.Variable, rule.Want, value))
		} else {
			faults = append(faults, fmt.Errorf("%s must be %s; it is not set", rule.Variable, rule.Want))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(malformed)) {
		faults = append(faults, fmt.Errorf("%s has an invalid value: %.100q", name, set[name]))
	}
	return errors.Join(faults...)
}

// parse fills config and returns the variables that are missing or do not parse. Their fields hold the zero value.
func parse(set map[string]string, config Configuration) (malformed map[string]bool, err error) {
	variables := make(map[string]string) // by field
	for _, field := range reflect.VisibleFields(reflect.TypeOf(config).Elem()) {
		variables[field.Name], _, _ = strings.Cut(field.Tag.Get("env"), ",")
	}
	malformed = make(map[string]bool)
	err = env.ParseWithOptions(config, env.Options{Environment: set})
	var all env.AggregateError
	if err != nil && !errors.As(err, &all) {
		return nil, fmt.Errorf("environment: %w", err)
	}
	for _, fault := range all.Errors {
		var missing env.VarIsNotSetError
		var invalid env.ParseError
		switch {
		case errors.As(fault, &missing):
			malformed[missing.Key] = true
		case errors.As(fault, &invalid):
			malformed[variables[invalid.Name]] = true
		default:
			return nil, fmt.Errorf("environment: %w", fault)
		}
	}
	return malformed, nil
}
