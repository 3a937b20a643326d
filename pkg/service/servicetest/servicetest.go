// Package servicetest tests the Config of a service.
package servicetest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/accrue/accrue/pkg/service"
)

// TestConfig checks that a Config binds each variable once, has one rule for each, and reports every fault by the names of
// variables alone.
func TestConfig[C any, P interface {
	*C
	service.Configuration
}](t *testing.T) {
	t.Helper()
	bound := make(map[string]reflect.StructField)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[C]()) {
		if field.Anonymous {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		if _, twice := bound[name]; twice || name == "" {
			t.Errorf("field %s is bound to %q, want a variable of its own", field.Name, name)
		}
		bound[name] = field
	}
	rules := make(map[string]string)
	for _, rule := range P(new(C)).Rules() {
		if _, twice := rules[rule.Variable]; twice {
			t.Errorf("%s has two rules", rule.Variable)
		}
		if _, ok := bound[rule.Variable]; !ok {
			t.Errorf("there is a rule for %s, which no field is bound to", rule.Variable)
		}
		rules[rule.Variable] = rule.Want
	}

	wrong := make(map[string]string)
	for name, field := range bound {
		if rules[name] == "" {
			t.Errorf("%s has no rule", name)
		}
		wrong[name] = "/?!" // neither a number, a duration, an address, an id, nor an origin
		if field.Name == "Project" {
			wrong[name] = ""
		}
	}
	err := service.Load(wrong, P(new(C)))
	if err == nil {
		t.Fatal("Load() = nil for a wrong value of every variable")
	}
	for name, field := range bound {
		if want := name + " must be " + rules[name] + "; it is "; strings.Count(err.Error(), want) != 1 {
			t.Errorf("Load() = %v, want one line that begins with %q", err, want)
		}
		if strings.Contains(err.Error(), field.Name+`"`) || strings.Contains(err.Error(), field.Type.String()+`"`) {
			t.Errorf("Load() = %v, which names the Go field %s", err, field.Name)
		}
	}
}
