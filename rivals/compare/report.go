package compare

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is everything that a run has found.
type report struct {
	settings settings
	machine  *machine
	subjects []*subject
	results  [][][]turn // by shape and subject
	losses   map[*subject]loss
	// emulation is nil if no subject on the emulators was asked for.
	emulation *emulation
	// system is what accrue bench has measured, nil without --system.
	system []systemRow
	took   time.Duration
}

// spread is a median and what is around it.
type spread struct{ median, least, most float64 }

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	return spread{sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1]}
}

func collect(turns []turn, value func(turn) float64) []float64 {
	values := make([]float64, len(turns))
	for i, t := range turns {
		values[i] = value(t)
	}
	return values
}

func rate(t turn) float64 { return t.rate }

// peer returns the index of the subject that another is compared with: Accrue with fsync or on the emulators, and with keys if
// the other has them. It returns -1 if Accrue did not run.
func (r *report) peer(of *subject) int {
	return slices.IndexFunc(r.subjects, func(s *subject) bool { return s.accrue && s.class != memory && s.keys == of.keys })
}

// ratios returns, round by round, the rate of a subject divided by that of its peer. It is nil without a peer, or
// if it was left out.
func (r *report) ratios(shape, of int) []float64 {
	peer := r.peer(r.subjects[of])
	if peer < 0 || len(r.results[shape][of]) == 0 {
		return nil
	}
	turns, peers := r.results[shape][of], r.results[shape][peer]
	ratios := make([]float64, len(turns))
	for i := range turns {
		ratios[i] = turns[i].rate / peers[i].rate
	}
	return ratios
}

// page returns the page of the documentation.
func (r *report) page() string {
	var b strings.Builder
	w := func(format string, arguments ...any) { fmt.Fprintf(&b, format, arguments...) }
	w(`# Accrue beside Redis, PostgreSQL and NATS

This page is written by %[1]smake %[4]s%[1]s: the same HTTP API on what else could count, on one machine, by one load generator.

![Single posts per second](images/benchmarks.svg)

## How to read it

- Every subject has the same HTTP server, Gin router, decoder and rules as ingest, so that only what happens between a decoded request and
  its 202 differs. The load, the subject and its store share the processors.
- Turns are interleaved: each round measures every subject once and begins with another. Figures are medians of %[2]d rounds of %[3]v, with the least
  and the most. After each turn the totals are read and must be exact; CPU time is counted until they are.
- **CPU** is seconds of processors for a million increments, by process, without the load's. Where the machine is full it decides the rate.
- **Class** is what a 202 survives: D0 nothing, D1 SIGKILL of all processes, D2 also a loss of power, since the answer waits for an fsync. Compare
  within a class. No subject here is replicated.
- **Keys** means that a post is counted once however often it is retried. Accrue always can; the others need a form of their own for it.
- **Of Accrue's** divides a rate by that of Accrue, D2, with keys for a subject with keys and without for one without, round by round. Above 1 the
  subject is faster.
- The rivals' totals are current at the 202, Accrue's a second later: it sums a window before it writes.

`, "`", r.settings.rounds, r.settings.each, r.target())
	if r.machine.busy > 0.1 {
		w("**The machine was busy with other work during this run** (%.0f %% of its processors at the start): the spreads are wide, and every figure is lower than on an idle machine.\n\n", 100*r.machine.busy)
	}
	if len(r.subjects) > 0 {
		r.list(w)
		for i, of := range shapes() {
			w("\n## %s\n\n", of)
			r.table(w, i)
		}
	}
	if r.emulation != nil {
		r.emulators(w)
	}
	r.aims(w)
	r.alone(w)
	if len(r.losses) > 0 {
		r.lossTable(w)
	}
	if len(r.subjects) > 0 {
		w("\n## Where Accrue is slower, and why\n\n")
		r.faster(w)
	}
	r.machineTable(w)
	return b.String()
}

// target is that of the Makefile.
func (r *report) target() string {
	if r.system != nil {
		return "bench"
	}
	return "bench-rivals"
}

// list writes the subjects.
func (r *report) list(w func(string, ...any)) {
	w("| subject | class | keys | how it counts |\n|---|---|---|---|\n")
	for _, s := range r.subjects {
		w("| %s | %s | %s | %s |\n", s.name, s.class, yes(s.keys), s.how)
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// table writes the results of one shape.
func (r *report) table(w func(string, ...any), shape int) {
	w("| subject | class | keys | increments/s | of Accrue's | p50, p99 in ms | CPU |\n|---|---|---|---|---|---|---|\n")
	for i, s := range r.subjects {
		turns := r.results[shape][i]
		if len(turns) == 0 {
			continue
		}
		of := "–"
		if ratios := r.ratios(shape, i); ratios != nil {
			x := spreadOf(ratios)
			of = fmt.Sprintf("%.2f (%.2f to %.2f)", x.median, x.least, x.most)
		}
		if r.peer(s) == i {
			of = "1"
		}
		p50 := spreadOf(collect(turns, func(t turn) float64 { return t.p50.Seconds() * 1000 })).median
		p99 := spreadOf(collect(turns, func(t turn) float64 { return t.p99.Seconds() * 1000 })).median
		x := spreadOf(collect(turns, rate))
		w("| %s | %s | %s | %s (%s to %s) | %s | %.1f, %.1f | %s |\n", s.name, s.class, yes(s.keys),
			thousands(x.median), thousands(x.least), thousands(x.most), of, p50, p99, r.cpu(shape, i))
	}
	for i, s := range r.subjects {
		if refused := sum(r.results[shape][i], func(t turn) int64 { return t.refused }); refused > 0 {
			w("\n%s answered 503 to %s requests, for the load; they were made again.\n", s.name, thousands(float64(refused)))
		}
	}
}

// sum adds up a figure of turns.
func sum(turns []turn, figure func(turn) int64) (total int64) {
	for _, t := range turns {
		total += figure(t)
	}
	return total
}

// cpu returns the medians of the CPU time of each part and of all.
func (r *report) cpu(shape, subject int) string {
	turns := r.results[shape][subject]
	texts := make([]string, 0, len(r.subjects[subject].parts))
	all := spreadOf(collect(turns, cpu)).median
	for i, p := range r.subjects[subject].parts {
		texts = append(texts, p.name+" "+digits(spreadOf(collect(turns, func(t turn) float64 { return t.cpu[i] })).median))
	}
	if len(texts) == 1 {
		return digits(all)
	}
	return fmt.Sprintf("%s (%s)", digits(all), strings.Join(texts, ", "))
}

// digits writes seconds with two digits or so.
func digits(seconds float64) string {
	if seconds >= 10 {
		return strconv.FormatFloat(seconds, 'f', 0, 64)
	}
	return strconv.FormatFloat(seconds, 'f', 1, 64)
}

// thousands writes a rate with three digits and separators.
func thousands(n float64) string {
	text := strconv.FormatFloat(n, 'f', 0, 64)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func (r *report) lossTable(w func(string, ...any)) {
	w(`
## Kills, and producers that retry

%d producers post single increments through the Go client, each with a key, and retry each post until it is accepted. Meanwhile all processes of the
subject, its store included, are killed with SIGKILL and started again, %d times. Accepted and counted are sums of values and must be
equal. What the kernel holds survives SIGKILL, so D1 loses nothing here; a loss of power, which this does not simulate, is
what separates D1 from D2. Without keys, a post that was counted but lost its answer is counted again.

| subject | class | keys | posts | retries | accepted | counted | difference |
|---|---|---|---|---|---|---|---|
`, producers, r.settings.kills)
	for _, s := range r.subjects {
		l, ok := r.losses[s]
		if !ok || s.accrue && !s.keys && s.class == fsync { // it is the same as with keys: these posts have them
			continue
		}
		difference := "**exact**"
		switch off := l.counted - l.accepted; {
		case off > 0:
			difference = "+" + thousands(float64(off))
		case off < 0:
			difference = "-" + thousands(float64(-off))
		case !s.keys && !s.accrue:
			difference = "0, by chance"
		}
		w("| %s | %s | %s | %s | %s | %s | %s | %s |\n", s.name, s.class, yes(s.keys), thousands(float64(l.posts)),
			thousands(float64(l.retries)), thousands(float64(l.accepted)), thousands(float64(l.counted)), difference)
	}
}

// clearly is the least ratio that counts as faster: less is noise.
const clearly = 1.05

// faster lists the rivals that are faster than their peer, and why.
func (r *report) faster(w func(string, ...any)) {
	found := false
	for i, of := range shapes() {
		for j, s := range r.subjects {
			ratios := r.ratios(i, j)
			if s.accrue || s.nothing || ratios == nil {
				continue
			}
			x := spreadOf(ratios)
			if x.median < clearly {
				continue
			}
			found = true
			why := s.why
			if why == "" {
				why = "it promises the same as Accrue"
			}
			w("- %s: **%s** is %.2f times as fast: %s.\n", of, s.name, x.median, why)
		}
	}
	if !found {
		w("No rival was more than 5 %% faster than Accrue with fsync, in any shape.\n")
	}
}

func (r *report) machineTable(w func(string, ...any)) {
	m := r.machine
	without := ""
	if r.system != nil {
		without = " without `accrue bench`"
	}
	w("\n## The run\n\n")
	w("| | |\n|---|---|\n")
	w("| command | `make %s ARGS='--rounds %d --each %v --kills %d'`, which took %s%s |\n", r.target(), r.settings.rounds, r.settings.each,
		r.settings.kills, r.took.Round(time.Second), without)
	w("| date | %s |\n", time.Now().UTC().Format("2 January 2006, 15:04 UTC"))
	w("| processors | %d, %s |\n", m.cores, m.cpu)
	w("| processors busy with other work before the run | %.0f %% |\n", 100*m.busy)
	w("| system | %s, data on %s |\n", m.kernel, m.fileSystem)
	w("| disk | %s fsyncs of 4 KiB in a second, one after the other |\n", thousands(m.fsyncs))
	for _, v := range m.versions {
		w("| %s | %s |\n", v[0], v[1])
	}
	w(`
Firestore and Pub/Sub themselves are not here: on one machine there are only their emulators, whose speed says nothing about the services. [measured.md](measured.md)
has Accrue on the emulators, and [scaling.md](scaling.md) what it costs.
`)
}
