package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/accrue/accrue/rivals/process"
	"github.com/accrue/accrue/tools/emulator"
)

// shardsOf is the number of documents of each tag that a distributed counter has here.
const shardsOf = 10

// emulators are those of the Cloud SDK, while they run.
type emulators struct{ pubSub, firestore *emulator.Emulator }

// start starts both. The caller must call stop, also after an error.
func (e *emulators) start(ctx context.Context) (err error) {
	if e.firestore, err = emulator.StartFirestore(ctx, emulator.Options{}); err != nil {
		return err
	}
	e.pubSub, err = emulator.StartPubSub(ctx, emulator.Options{})
	return err
}

// stop stops what has started.
func (e *emulators) stop() error {
	var faults []error
	for _, started := range []*emulator.Emulator{e.pubSub, e.firestore} {
		if started != nil {
			faults = append(faults, started.Stop())
		}
	}
	return errors.Join(faults...)
}

// emulated returns the subjects on the emulators, which must run before these do.
func (p places) emulated(ctx context.Context, e *emulators) ([]*subject, error) {
	l := &list{places: p}
	l.add(ctx, &subject{
		name: nameEmulated, class: emulated, accrue: true,
		how: "`accrue run --project PROJECT` with both emulators, as one process. D3 on Google's services: Pub/Sub keeps a post in several zones before the 202",
	}, func(address string) process.Command {
		return p.run("--project", "rivals", "--emulator", e.pubSub.Host, "--firestore-emulator", e.firestore.Host)(address)
	})
	for _, r := range []struct {
		name, how string
		shards    int
	}{
		{"Firestore, one increment a post", "Gin and Firestore's client: one write with an increment for each post, in a document for each tag", 1},
		{"Firestore, ten shards", "The same in a random one of ten documents for each tag, whose sum is its total", shardsOf},
	} {
		l.add(ctx, &subject{
			name: r.name, class: emulated,
			how: r.how + ". D3 on Google's service: Firestore keeps a write in several zones before the 202. A retry counts again",
		}, func(address string) process.Command {
			return p.serve("firestore", "--store", e.firestore.Host, "--shards", strconv.Itoa(r.shards))(address)
		})
	}
	return l.subjects, errors.Join(l.faults...)
}

// emulation is what a run on the emulators has found.
type emulation struct {
	subjects []*subject
	turns    [][]turn // by subject
	// missing is what is not installed, if they did not run.
	missing error
}

// emulatedShapes are what the subjects on the emulators are measured with.
func emulatedShapes() []shape { return shapes()[:1] }

// emulate measures subjects on the emulators. It returns nil if there are none.
func (s settings) emulate(ctx context.Context, e *emulators, subjects []*subject, log io.Writer) (found *emulation, err error) {
	if len(subjects) == 0 {
		return nil, nil //nolint:nilnil // there is nothing to find
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	if err := e.start(ctx); errors.Is(err, emulator.ErrNotFound) {
		fmt.Fprintf(log, "left out what needs the emulators: %v\n", err)
		return &emulation{missing: err}, nil
	} else if err != nil {
		return nil, err
	}
	defer func() {
		for _, x := range slices.Backward(subjects) {
			err = errors.Join(err, x.stop())
		}
	}()
	for _, x := range subjects {
		if err := x.start(ctx); err != nil {
			return nil, err
		}
	}
	fmt.Fprintln(log, "warming up: the emulators' first writes are ten times slower")
	if _, err := measure(ctx, subjects, emulatedShapes(), 1, s.each, io.Discard); err != nil {
		return nil, err
	}
	results, err := measure(ctx, subjects, emulatedShapes(), s.rounds, s.each, log)
	if err != nil {
		return nil, err
	}
	return &emulation{subjects: subjects, turns: results[0]}, nil
}

// emulators writes the section of what ran on the emulators.
func (r *report) emulators(w func(string, ...any)) {
	w(`
## On the emulators

%s, on the Cloud SDK's emulators of Firestore and Pub/Sub. The emulators' speed says nothing about Google's services: only the ratio to Accrue on
the same emulators means something. They keep everything in memory, so they are not killed below. On Google's services all of
these are D3: a 202 also survives the loss of a zone. CPU is without the emulators'.

`, emulatedShapes()[0])
	if r.emulation.missing != nil {
		w("**Left out:** %v.\n", r.emulation.missing)
		return
	}
	only := &report{subjects: r.emulation.subjects, results: [][][]turn{r.emulation.turns}}
	only.list(w)
	w("\n")
	only.table(w, 0)
}
