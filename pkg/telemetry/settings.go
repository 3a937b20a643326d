package telemetry

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// defaultRatio is the ratio of traces that are sampled when spans are exported: some ten a second on a busy instance.
const defaultRatio = 0.01

// The protocols for exporting spans. The first is the default of OpenTelemetry's specification.
const (
	protocolHTTP = "http/protobuf"
	protocolGRPC = "grpc"
)

// Settings holds the standard settings of OpenTelemetry that the SDK does not read itself.
type Settings struct {
	// Export reports whether spans are exported, and GRPC whether gRPC is the protocol in place of HTTP.
	Export, GRPC bool
	// Ratio is the ratio of traces that are sampled although their callers do not ask for it: 0 to 1, and 0 without Export.
	Ratio float64
}

// SettingsOf reads the settings from environment variables. Spans are exported if OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set or OTEL_TRACES_EXPORTER is otlp, unless OTEL_TRACES_EXPORTER is none or
// OTEL_SDK_DISABLED is true. OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, or else OTEL_EXPORTER_OTLP_PROTOCOL, is the protocol, and
// OTEL_TRACES_SAMPLER_ARG the ratio. The error has a line for each variable with an unsupported value.
func SettingsOf(variables map[string]string) (Settings, error) {
	var faults []error
	check := func(ok bool, name, rule string) {
		if !ok {
			faults = append(faults, fmt.Errorf("%s must be %s", name, rule))
		}
	}
	get := func(name string) string { return strings.TrimSpace(variables[name]) }

	exporter, endpoint := get("OTEL_TRACES_EXPORTER"), get("OTEL_EXPORTER_OTLP_ENDPOINT")
	check(exporter == "" || exporter == "otlp" || exporter == "none", "OTEL_TRACES_EXPORTER", "otlp or none")
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		u, err := url.Parse(get(name))
		check(get(name) == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", name, "a URL such as http://localhost:4317")
	}
	protocol := protocolHTTP
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} { // the last one that is set wins
		if value := get(name); value != "" {
			check(value == protocolHTTP || value == protocolGRPC, name, protocolHTTP+" or "+protocolGRPC)
			protocol = value
		}
	}
	sampler := get("OTEL_TRACES_SAMPLER")
	check(sampler == "" || sampler == "traceidratio", "OTEL_TRACES_SAMPLER", "traceidratio: the flag of a parent does not decide alone")
	s := Settings{Ratio: defaultRatio}
	if ratio := get("OTEL_TRACES_SAMPLER_ARG"); ratio != "" {
		var err error
		s.Ratio, err = strconv.ParseFloat(ratio, 64)
		check(err == nil && s.Ratio >= 0 && s.Ratio <= 1, "OTEL_TRACES_SAMPLER_ARG", "0 to 1")
	}
	if err := errors.Join(faults...); err != nil {
		return Settings{}, err
	}
	named := exporter == "otlp" || endpoint != "" || get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	s.GRPC = protocol == protocolGRPC
	if s.Export = named && exporter != "none" && !strings.EqualFold(get("OTEL_SDK_DISABLED"), "true"); !s.Export {
		return Settings{}, nil
	}
	return s, nil
}
