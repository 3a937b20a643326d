package view_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/accrue/accrue/query/internal/view"
)

// collect returns the number of values of each histogram, by name and result, and the values of gauges.
func collect(t *testing.T, reader sdkmetric.Reader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					result, _ := p.Attributes.Value("result")
					got[m.Name+result.AsString()] = float64(p.Count)
				}
			case metricdata.Gauge[float64]:
				got[m.Name] = data.DataPoints[0].Value
			}
		}
	}
	return got
}

// What was committed before the first read says nothing about freshness, nor does a read that found nothing new.
func TestFreshnessIsMeasuredOncePerCommitAfterTheFirstRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{total: 1}
		reader := sdkmetric.NewManualReader()
		r, err := view.NewRefresher(s, every, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		start(t, r)
		time.Sleep(2 * every)
		s.steer(func(s *steeredStore) { s.total++ })
		time.Sleep(4*every + every/2)
		s.steer(func(s *steeredStore) { s.err = errDown })
		time.Sleep(every)
		got := collect(t, reader)
		for name, want := range map[string]float64{
			"accrue_freshness": 1, "accrue_freshness_viewed": 1, "accrue_view_refresh_durationok": 7,
			"accrue_view_refresh_durationfailed": 1, "accrue_view_age": every.Seconds() * 1.5,
		} {
			if got[name] != want {
				t.Errorf("%s = %v, want %v", name, got[name], want)
			}
		}
	})
}

func TestChangesReceivesATokenWhenAPartitionChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &steeredStore{total: 1}
		r, _ := run(t, s)
		changed := func() bool {
			select {
			case <-r.Changes():
				return true
			default:
				return false
			}
		}
		for _, step := range []struct {
			name   string
			change func(*steeredStore)
			want   bool
		}{
			{"a first read", func(*steeredStore) {}, true},
			{"no change", func(*steeredStore) {}, false},
			{"a change", func(s *steeredStore) { s.total++ }, true},
			{"a failed read", func(s *steeredStore) { s.total, s.err = s.total+1, errDown }, false},
			{"the read after it", func(s *steeredStore) { s.err = nil }, true},
		} {
			s.steer(step.change)
			time.Sleep(2 * every)
			synctest.Wait()
			if got := changed(); got != step.want {
				t.Errorf("%s: changed = %v, want %v", step.name, got, step.want)
			}
		}
		for range 3 {
			s.steer(func(s *steeredStore) { s.total++ })
			time.Sleep(2 * every)
		}
		if !changed() || changed() {
			t.Error("want one token for several changes")
		}
	})
}
