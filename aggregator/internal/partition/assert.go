package partition

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"

	"github.com/accrue/accrue/pkg/checkpoint"
	"github.com/accrue/accrue/pkg/store"
)

// The assertions, which stay on. None can fail unless there is a bug, here or in the store. A Commit that contradicts one is
// not sent: its messages stay in the subscription, since late is better than wrong.
const (
	// assertEntries: each entry of the messages that a Commit settles is counted, repeats a key, or is rejected.
	assertEntries = "entries"
	// assertTotals: the totals after a Commit are those before it and the window, one for each tag.
	assertTotals = "totals"
	// assertMessages: what a Commit settles was not settled before it, and is after it.
	assertMessages = "messages"
	// assertDocuments: the document of a tag has at least what the checkpoint has counted for it.
	assertDocuments = "documents"
)

var assertions = []string{assertEntries, assertTotals, assertMessages, assertDocuments}

const (
	// sampledTags is how many tag documents are compared with a checkpoint that was loaded, sampledBurst how many checkpoints
	// at first, and one each sampleEvery later: under conflicts there may be many loads a second.
	sampledTags, sampledBurst = 8, 16
	sampleEvery               = 10 * time.Second
	// sampleTries is how often a document is read that has too little: an operator may have retired the tag meanwhile.
	sampleTries   = 3
	sampleTimeout = 5 * time.Second
	// assertedEvery is the time between two log lines.
	assertedEvery = 10 * time.Second
)

// errAssertion is the error of a Commit that contradicts an assertion.
var errAssertion = errors.New("assertion failed")

// check returns an error if the Commit of a draft contradicts an assertion. It adds up what it compares by itself, from the
// messages and the checkpoints.
func (p *partition) check(d *draft, commit *store.Commit) error {
	if err := checkEntries(d, commit, &p.state.Checkpoint); err != nil {
		return p.assertion(assertEntries, err)
	}
	if err := p.checkPaid(commit); err != nil {
		return err
	}
	for _, m := range d.messages {
		if p.state.Checkpoint.Contains(m) || !commit.Next.Contains(m) {
			return p.assertion(assertMessages, fmt.Errorf("message %d of publisher %x: settled before %t, after %t",
				m.Sequence, m.Publisher, p.state.Checkpoint.Contains(m), commit.Next.Contains(m)))
		}
	}
	return nil
}

// checkPaid is check for a Commit that may settle nothing.
func (p *partition) checkPaid(commit *store.Commit) error {
	if err := checkTotals(&p.state.Checkpoint, commit); err != nil {
		return p.assertion(assertTotals, err)
	}
	return nil
}

// changes adds up what a Commit adds to tags: to their documents, and to what these are owed.
func changes(before *checkpoint.Checkpoint, commit *store.Commit) (value, increments int64) {
	for i := range commit.Tags {
		value += commit.Tags[i].Value
		increments += commit.Tags[i].Increments
	}
	for i := range commit.Next.Owed {
		value += commit.Next.Owed[i].Value
		increments += commit.Next.Owed[i].Increments
	}
	for i := range before.Owed {
		value -= before.Owed[i].Value
		increments -= before.Owed[i].Increments
	}
	return value, increments
}

func checkEntries(d *draft, commit *store.Commit, before *checkpoint.Checkpoint) error {
	var entries, value, rejected int64
	changed, counted := changes(before, commit)
	for _, held := range d.fresh {
		entries += int64(held.Batch.Entries())
		for i := range held.Batch.Increments {
			value += int64(held.Batch.Increments[i].Value)
		}
	}
	for i := range commit.Contributors {
		counted += commit.Contributors[i].Contributions
	}
	for i := range commit.Rejected {
		rejected++
		changed += int64(commit.Rejected[i].Value)
	}
	repeated := int64(d.claim.Repeated)
	if counted+rejected+repeated != entries {
		return fmt.Errorf("%d entries, of which %d are counted, %d rejected, %d repeated", entries, counted, rejected, repeated)
	}
	if changed > value || repeated == 0 && changed != value { // what is repeated has values too
		return fmt.Errorf("a value of %d, of which %d is counted or rejected, and %d entries repeated", value, changed, repeated)
	}
	return nil
}

func checkTotals(before *checkpoint.Checkpoint, commit *store.Commit) error {
	after := commit.Next.Totals
	total, increments := add(before.Totals)
	value, n := changes(before, commit)
	total += value
	increments += n
	for i := 1; i < len(after); i++ {
		if after[i-1].Name >= after[i].Name {
			return fmt.Errorf("%s comes after %s", after[i].Name, after[i-1].Name)
		}
	}
	if totalAfter, incrementsAfter := add(after); totalAfter != total || incrementsAfter != increments {
		return fmt.Errorf("all totals add up to %d in %d increments, want %d in %d", totalAfter, incrementsAfter, total, increments)
	}
	return nil
}

func add(totals []checkpoint.Total) (total, increments int64) {
	for i := range totals {
		total += totals[i].Total
		increments += totals[i].Increments
	}
	return total, increments
}

// assertion counts and logs an assertion that failed, and returns the error.
func (p *partition) assertion(name string, cause error) error {
	p.asserted(name, p.no, cause)
	return fmt.Errorf("%w: %s: %w", errAssertion, name, cause)
}

func (s *shared) asserted(name string, partition uint32, cause error) {
	s.metrics.asserted.Add(context.Background(), 1, metric.WithAttributes(attribute.String("assertion", name)))
	if s.metrics.assertedLines.Allow() {
		s.log.Error().Str("assertion", name).Uint32("partition", partition).Err(cause).
			Msg("an assertion failed: this is a bug in Accrue, or the store's documents were changed by hand")
	}
}

// sample is a checkpoint that was loaded, and some of its totals, without what their documents lack.
type sample struct {
	partition uint32
	totals    []checkpoint.Total
}

// sampler compares documents with checkpoints, one after the other. It is never waited for: what comes while it is busy is left out.
type sampler struct {
	*shared
	limit   *rate.Limiter
	samples chan sample
}

func newSampler(s *shared) *sampler {
	return &sampler{s, rate.NewLimiter(rate.Every(sampleEvery), sampledBurst), make(chan sample, sampledBurst)}
}

// loaded takes a sample of a checkpoint that was loaded.
func (s *sampler) loaded(partition uint32, c *checkpoint.Checkpoint) {
	if len(c.Totals) == 0 || !s.limit.Allow() {
		return
	}
	select {
	case s.samples <- sample{partition, c.Documented(some(c.Totals))}:
	default:
	}
}

// some returns the names of some totals, by chance.
func some(totals []checkpoint.Total) []string {
	picked := make([]string, 0, sampledTags)
	for range min(sampledTags, len(totals)) {
		picked = append(picked, totals[rand.IntN(len(totals))].Name) //nolint:gosec // a sample
	}
	return picked
}

// run compares the samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case one := <-s.samples:
			s.compare(ctx, one)
		}
	}
}

// compare compares the documents of a sample with their totals. Documents are read after the checkpoint, and may have totals
// of other partitions too, so they have as much or more. A read that fails proves nothing.
func (s *sampler) compare(ctx context.Context, one sample) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	var short error
	for range sampleTries {
		names := make([]string, len(one.totals))
		for i := range one.totals {
			names[i] = one.totals[i].Name
		}
		documents, err := s.ledger.TagsNamed(ctx, names)
		if err != nil {
			return
		}
		if short = compareDocuments(one.totals, documents); short == nil {
			return
		}
		state, err := s.ledger.Load(ctx, one.partition)
		if err != nil {
			return
		}
		one.totals = state.Checkpoint.Documented(names)
	}
	s.asserted(assertDocuments, one.partition, short)
}

func compareDocuments(totals []checkpoint.Total, documents []store.Tag) error {
	found := make(map[string]store.Tag, len(documents))
	for _, tag := range documents {
		found[tag.Name] = tag
	}
	for i := range totals {
		want, got := &totals[i], found[totals[i].Name]
		if got.Total < want.Total || got.Increments < want.Increments {
			return fmt.Errorf("the document of %s has %d in %d increments, and its checkpoint %d in %d",
				want.Name, got.Total, got.Increments, want.Total, want.Increments)
		}
	}
	return nil
}
