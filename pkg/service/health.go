package service

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/problem"
	"github.com/accrue/accrue/pkg/telemetry"
	"github.com/accrue/accrue/pkg/version"
)

// The paths of health requests. They do not end in z: Cloud Run's front end swallows some that do.
const (
	LivePath  = "/health/live"
	ReadyPath = "/health/ready"
)

// checkTimeout bounds how long readiness waits for all checks.
const checkTimeout = 2 * time.Second

// Check is a dependency without which the service is not ready.
type Check struct {
	// Name names the dependency in the answer.
	Name string
	// Check returns nil if the dependency works. It returns soon after its context ends.
	Check func(context.Context) error
	// Optional is set if the service works without it. A failure is then a part of the answer, which is still 200.
	Optional bool
}

// Live answers 200. It checks no dependency: a restart would repair none of them.
//
//	@Summary		Does the process run?
//	@Description	Answers 200 as long as the process can answer at all. It checks no dependency, since a restart would not help.
//	@ID				getLive
//	@Tags			health
//	@Produce		json
//	@Success		200	{object}	Health	"It runs."
//	@Failure		431	"The header of the request is larger than 64 KiB."
//	@x-example-200	{"status":"live"}
//	@Router			/health/live [get]
func Live(w http.ResponseWriter, _ *http.Request) { answer(w, `{"status":"live"}`) }

// Ready answers 200 if all checks that are not optional pass, and otherwise 503 with a problem document that names those that
// failed. All requests within a second share one result, since the endpoint is public and a check may cost money.
//
//	@Summary		Can the service do its work?
//	@Description	Asks the service's dependencies. All requests of a second share one outcome.
//	@ID				getReady
//	@Tags			health
//	@Produce		json
//	@Success		200	{object}	Health				"Every dependency answers."
//	@Failure		503	{object}	problem.Document	"not ready"
//	@Failure		431	"The header of the request is larger than 64 KiB."
//	@Header			503	{integer}	Retry-After			"After how many seconds to ask again."
//	@x-example-200	{"status":"ready","version":"v0.1.0"}
//	@x-example-503	{"errors":[{"parameter":"pubsub","detail":"publish: no answer"}]}
//	@Router			/health/ready [get]
func Ready(checks ...Check) http.HandlerFunc {
	r := readiness{checks: checks}
	return func(w http.ResponseWriter, request *http.Request) {
		faults, degraded := r.ask(request.Context())
		if len(faults) > 0 {
			d := problem.Unavailable("not ready", time.Second)
			d.Errors = faults
			d.Write(w)
			return
		}
		body, _ := json.Marshal(Health{Status: "ready", Version: version.Current().Version, Degraded: degraded}) // strings: no error
		answer(w, string(body))
	}
}

// Health is the answer of a service that works.
//
//	@Description	The answer of a service that works.
type Health struct {
	// What works: the process (live) or everything that it depends on (ready).
	Status string `json:"status" validate:"required" enums:"live,ready"`
	// Version is the version of the program. Only ready has it.
	Version string `json:"version,omitempty"`
	// What does not work although the service does. Only ready has it.
	Degraded []problem.Fault `json:"degraded,omitempty"`
} //	@name	Health

// checkEvery is how long a result of the checks is reused.
const checkEvery = time.Second

type readiness struct {
	checks []Check

	mu        sync.Mutex
	checkedAt time.Time
	faults    []problem.Fault
	degraded  []problem.Fault // of optional checks
}

// ask returns the faults found now, or less than checkEvery ago. While one request runs the checks, the others wait for
// its result.
func (r *readiness) ask(ctx context.Context) (faults, degraded []problem.Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.checkedAt.IsZero() && time.Since(r.checkedAt) < checkEvery {
		return r.faults, r.degraded
	}
	// The result is shared, so the client whose request runs the checks must not cut them short.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	for _, c := range r.checks {
		if err := c.Check(ctx); err != nil {
			fault := problem.Fault{Parameter: c.Name, Detail: err.Error()}
			if c.Optional {
				degraded = append(degraded, fault)
			} else {
				faults = append(faults, fault)
			}
		}
	}
	r.checkedAt, r.faults, r.degraded = time.Now(), faults, degraded
	return faults, degraded
}

func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(body)) // a client that is gone needs no answer
}

// HealthHandler returns the handler of a service without an API: it answers health requests and serves metrics, which may
// be nil, and answers everything else with a problem document.
func HealthHandler(checks []Check, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	get := func(path string, handler http.Handler) {
		mux.Handle("GET "+path, handler)
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", "GET, HEAD")
			problem.New(http.StatusMethodNotAllowed, problem.NoMethod).Write(w)
		})
	}
	get(LivePath, http.HandlerFunc(Live))
	get(ReadyPath, Ready(checks...))
	if metrics != nil {
		get(telemetry.MetricsPath, metrics)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem.New(http.StatusNotFound, problem.NoPath).Write(w)
	})
	return mux
}
