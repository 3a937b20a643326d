package telemetry

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// defaultRatio is the part of traces that are followed when spans are exported: some ten a second of a busy instance.
const defaultRatio = 0.01

// The protocols by which spans are exported. The first is the default of OpenTelemetry's specification.
const (
	protocolHTTP = "http/protobuf"
	protocolGRPC = "grpc"
)

// Settings are what the standard variables of OpenTelemetry say, as far as they are ours to keep.
type Settings struct {
	// Export says whether spans are exported, and GRPC by which protocol: gRPC in place of HTTP.
	Export, GRPC bool
	// Ratio is the part of traces that are followed without their callers asking for it: 0 to 1, and 0 without Export.
	Ratio float64
}

// SettingsOf reads settings from the environment's variables. Spans are exported if OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT names a receiver, or OTEL_TRACES_EXPORTER is otlp, and neither
// OTEL_TRACES_EXPORTER=none nor OTEL_SDK_DISABLED=true forbids it; by HTTP, unless OTEL_EXPORTER_OTLP_TRACES_PROTOCOL or
// OTEL_EXPORTER_OTLP_PROTOCOL is grpc; the ratio is OTEL_TRACES_SAMPLER_ARG. The error names every variable that asks for
// something that there is not.
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
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} { // the later one wins
		if value := get(name); value != "" {
			check(value == protocolHTTP || value == protocolGRPC, name, protocolHTTP+" or "+protocolGRPC)
			protocol = value
		}
	}
	sampler := get("OTEL_TRACES_SAMPLER")
	check(sampler == "" || sampler == "traceidratio", "OTEL_TRACES_SAMPLER", "traceidratio: a parent's flag is another matter here")
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
