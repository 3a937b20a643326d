package compare

import (
	"fmt"
	"slices"
	"strings"
)

// aim is what Accrue wants to be, as a figure of a run.
type aim struct {
	what string
	// shape is where it is measured.
	shape int
	// value returns the figure of each round, or nil if a subject that it needs did not run.
	value func(r *report, shape int) []float64
	want  float64
	// most means that the figure must be at most want, and not at least.
	most bool
	// format is that of the figure.
	format string
	// holds says what holds it back, and the command of the profile that shows it.
	holds string
}

// The profiles that show where the time of a post goes.
const (
	profileSingle = "`go test ./ingest -run '^$' -bench BenchmarkPostToService -cpuprofile cpu.out && go tool pprof -top cpu.out`"
	profileBatch  = "`go test ./ingest/internal/api -run '^$' -bench BenchmarkDecodeAThousand -cpuprofile cpu.out && go tool pprof -top cpu.out`"
	profileCount  = "`go test ./aggregator/internal/idempotency -run '^$' -bench BenchmarkIndex -cpuprofile cpu.out && go tool pprof -top cpu.out`"
)

// The names of subjects that aims compare.
const (
	nameNothing  = "no-op"
	nameWaits    = "no-op that waits"
	nameMemory   = "Accrue, in memory"
	nameAccrue   = "Accrue"
	nameKeys     = "Accrue, keys"
	nameEverysec = "Redis everysec"
	nameAlways   = "Redis always, keys"
	namePostgres = "PostgreSQL, keys"
	nameNATS     = "NATS SyncAlways, keys"
	nameEmulated = "Accrue on the emulators"
)

const (
	singles, hundreds, thousandsOf = 0, 2, 3 // places in shapes

	twoDigits = "%.2f"
)

func aims() []aim {
	waiting := "A group commit makes each post wait, and waiting costs in net/http: a background read, parking, waking, and answers in smaller bursts. " + profileSingle
	syncing := "NATS fsyncs each message by itself, so its rate is the disk's (fsyncs a second, below), and Accrue's is not: a faster disk makes the ratio smaller."
	return []aim{
		{"CPU of a single post, in memory, all three services / no-op that waits", singles, cpuRatio(nameMemory, nameWaits), 1.3, true, twoDigits, waiting},
		{"single posts, in memory / no-op", singles, rateRatio(nameMemory, nameNothing), 0.8, false, twoDigits, waiting},
		{"single posts, in memory / no-op that waits", singles, rateRatio(nameMemory, nameWaits), 0.8, false, twoDigits, waiting},
		{"single posts, in memory / Gin and rueidis, everysec", singles, rateRatio(nameMemory, nameEverysec), 1.15, false, twoDigits, waiting},
		{"single posts, exact, D2 / Gin and rueidis, always, exact", singles, rateRatio(nameKeys, nameAlways), 1.4, false, twoDigits, waiting},
		{"single posts, exact, D2 / Gin and PostgreSQL, exact", singles, rateRatio(nameKeys, namePostgres), 1.3, false, twoDigits, waiting},
		{"single posts, exact, D2 / Gin and NATS SyncAlways, exact", singles, rateRatio(nameKeys, nameNATS), 6, false, "%.1f", syncing},
		{"CPU of a single post, exact, D2 / the least of any rival", singles, leastCPU, 1, true, twoDigits, waiting},
		{"batches of 1,000: increments/s accepted, in memory", thousandsOf, rates(nameMemory), 2.5e6, false, "%.0f", "Decoding JSON is most of it. " + profileBatch},
		{"batches of 1,000, D2 / the fastest D2 rival", thousandsOf, ofFastest, 1, false, twoDigits, "Decoding JSON is most of it. " + profileBatch},
		{"batches of 100, D2: with a key for each / without", hundreds, rateRatio(nameKeys, nameAccrue), 0.95, false, twoDigits, "A range of keys is looked up and kept for each message. " + profileCount},
		{"batches of 1,000, D2: with a key for each / without", thousandsOf, rateRatio(nameKeys, nameAccrue), 0.95, false, twoDigits, "A range of keys is looked up and kept for each message. " + profileCount},
		{"CPU of an increment in batches of 1,000, in memory, all three services, µs", thousandsOf, cpus(nameMemory), 0.4, true, twoDigits, "Decoding JSON, then sums and checkpoints. " + profileBatch + ", " + strings.ReplaceAll(profileCount, "idempotency -run '^$' -bench BenchmarkIndex", "window -run '^$' -bench BenchmarkSum")},
	}
}

// turns returns the turns of a subject, or nil if it did not run.
func (r *report) turns(shape int, name string) []turn {
	if i := slices.IndexFunc(r.subjects, func(s *subject) bool { return s.name == name }); i >= 0 {
		return r.results[shape][i]
	}
	return nil
}

func cpu(t turn) (sum float64) {
	for _, seconds := range t.cpu {
		sum += seconds
	}
	return sum
}

// quotient divides a figure of one subject by that of another, round by round.
func quotient(name, by string, figure func(turn) float64) func(*report, int) []float64 {
	return func(r *report, shape int) []float64 {
		of, peers := r.turns(shape, name), r.turns(shape, by)
		all := make([]float64, 0, min(len(of), len(peers)))
		for i := range min(len(of), len(peers)) {
			all = append(all, figure(of[i])/figure(peers[i]))
		}
		return all
	}
}

func rateRatio(name, by string) func(*report, int) []float64 { return quotient(name, by, rate) }

func cpuRatio(name, by string) func(*report, int) []float64 { return quotient(name, by, cpu) }

func rates(name string) func(*report, int) []float64 {
	return func(r *report, shape int) []float64 { return collect(r.turns(shape, name), rate) }
}

func cpus(name string) func(*report, int) []float64 {
	return func(r *report, shape int) []float64 { return collect(r.turns(shape, name), cpu) }
}

// exactRivals are the subjects with keys and fsync that are not Accrue.
func (r *report) exactRivals() (names []string) {
	for _, s := range r.subjects {
		if s.class == fsync && s.keys && !s.accrue {
			names = append(names, s.name)
		}
	}
	return names
}

func leastCPU(r *report, shape int) []float64 {
	var all []float64
	for i, t := range r.turns(shape, nameKeys) {
		least := 0.0
		for _, name := range r.exactRivals() {
			if of := r.turns(shape, name); i < len(of) && (least == 0 || cpu(of[i]) < least) {
				least = cpu(of[i])
			}
		}
		if least > 0 {
			all = append(all, cpu(t)/least)
		}
	}
	return all
}

func ofFastest(r *report, shape int) []float64 {
	var all []float64
	for i, t := range r.turns(shape, nameKeys) {
		most := 0.0
		for _, name := range r.exactRivals() {
			if of := r.turns(shape, name); i < len(of) {
				most = max(most, rate(of[i]))
			}
		}
		if most > 0 {
			all = append(all, rate(t)/most)
		}
	}
	return all
}

// met reports whether a figure is what is aimed at.
func (a *aim) met(figure float64) bool {
	if a.most {
		return figure <= a.want
	}
	return figure >= a.want
}

// judged is a line of the table of aims.
type judged struct {
	what, aim, figure string
	met               bool
	holds             string
}

// judge compares the figures of this run with the aims.
func (r *report) judge() []judged {
	var lines []judged
	for _, a := range aims() {
		values := a.value(r, a.shape)
		if len(values) == 0 {
			continue
		}
		x := spreadOf(values)
		number := func(n float64) string {
			if n >= 1000 {
				return thousands(n)
			}
			return fmt.Sprintf(a.format, n)
		}
		lines = append(lines, judged{
			what: a.what, aim: sign(a.most) + " " + number(a.want),
			figure: fmt.Sprintf("%s (%s to %s)", number(x.median), number(x.least), number(x.most)), met: a.met(x.median), holds: a.holds,
		})
	}
	return lines
}

// sign is how an aim compares.
func sign(most bool) string {
	if most {
		return "≤"
	}
	return "≥"
}

// aims writes the aims, whether each is met, and what holds back those that are not.
func (r *report) aims(w func(string, ...any)) {
	lines := append(r.judge(), judgeSystem(r.system)...)
	if len(lines) == 0 {
		return
	}
	w("\n## Aims\n\nComputed from this run: the median over its rounds, with the least and the most.%s\n\n| figure | aim | this run | |\n|---|---|---|---|\n",
		r.ofSystem())
	var back []string
	for _, l := range lines {
		met := "met"
		if !l.met {
			met = "**not met**"
			back = append(back, fmt.Sprintf("- %s: %s\n", l.what, l.holds))
		}
		w("| %s | %s | %s | %s |\n", l.what, l.aim, l.figure, met)
	}
	if len(back) > 0 {
		each := "the profile that shows it"
		if r.system != nil {
			each = "the reason, or the profile that shows it"
		}
		w("\n## What holds it back\n\nEach with %s.\n\n", each)
		for _, line := range back {
			w("%s", line)
		}
	}
}
