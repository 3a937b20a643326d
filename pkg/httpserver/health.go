package httpserver

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/accrue/accrue/pkg/problem"
)

// The paths of health requests. They do not end in z: Cloud Run's front end swallows some that do.
const (
	LivePath  = "/health/live"
	ReadyPath = "/health/ready"
)

// checkTimeout bounds how long readiness waits for a dependency.
const checkTimeout = 2 * time.Second

// Check asks one dependency whether the service can do its work.
type Check struct {
	// Name is what the service depends on, for the answer.
	Name string
	// Check returns nil when the dependency is well. It returns soon after its context ends.
	Check func(context.Context) error
}

// Live answers that the process runs. It never asks a dependency: a restart heals none of them.
//
//	@Summary		Does the process run?
//	@Description	Answers 200 as long as the process can answer at all. It asks no dependency: a restart heals none of them.
//	@ID				getLive
//	@Tags			health
//	@Produce		json
//	@Success		200	{object}	Health	"It runs."
//	@x-example-200	{"status":"live"}
//	@Router			/health/live [get]
func Live(w http.ResponseWriter, _ *http.Request) { answer(w, `{"status":"live"}`) }

// Ready answers 200 when every check passes, and otherwise 503 with a problem document that names those that did not. All
// requests of a second share one outcome: anybody may ask, and each question to a dependency may cost money.
//
//	@Summary		Can the service do its work?
//	@Description	Asks the service's dependencies. All requests of a second share one outcome.
//	@ID				getReady
//	@Tags			health
//	@Produce		json
//	@Success		200	{object}	Health				"Every dependency answers."
//	@Failure		503	{object}	problem.Document	"not ready"
//	@Header			503	{integer}	Retry-After			"After how many seconds to ask again."
//	@x-example-200	{"status":"ready"}
//	@x-example-503	{"errors":[{"parameter":"pubsub","detail":"publish: no answer"}]}
//	@Router			/health/ready [get]
func Ready(checks ...Check) http.HandlerFunc {
	r := readiness{checks: checks}
	return func(w http.ResponseWriter, request *http.Request) {
		if faults := r.ask(request.Context()); len(faults) > 0 {
			d := problem.Unavailable("not ready", time.Second)
			d.Errors = faults
			d.Write(w)
			return
		}
		answer(w, `{"status":"ready"}`)
	}
}

// Health is the answer of a service that is well.
//
//	@Description	The answer of a service that is well.
type Health struct {
	// What is well: the process (live) or all that it depends on (ready).
	Status string `json:"status" validate:"required" enums:"live,ready"`
} //	@name	Health

// checkEvery is how long an outcome of the checks is good for.
const checkEvery = time.Second

type readiness struct {
	checks []Check

	mu      sync.Mutex
	askedAt time.Time
	faults  []problem.Fault
}

// ask returns what is wrong now, or was less than checkEvery ago. While one request asks, the others wait for its answer.
func (r *readiness) ask(ctx context.Context) []problem.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.askedAt.IsZero() && time.Since(r.askedAt) < checkEvery {
		return r.faults
	}
	// Not cut short by the client that happens to ask: others share the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	var faults []problem.Fault
	for _, c := range r.checks {
		if err := c.Check(ctx); err != nil {
			faults = append(faults, problem.Fault{Parameter: c.Name, Detail: err.Error()})
		}
	}
	r.askedAt, r.faults = time.Now(), faults
	return faults
}

func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(body)) // the client is gone: nobody to tell
}
