package adapters_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/pkg/store/storetest"
	"github.com/accrue/accrue/tools/emulator/emulatortest"
)

func connectFirestore(t *testing.T, options ...firestore.Option) *firestore.Client {
	t.Helper()
	client, err := firestore.Connect(t.Context(), emulatortest.Project(t), "(default)", emulatortest.Firestore(t), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func TestFirestoreContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Store { return connectFirestore(t) })
}

func TestFirestoreContractInCollectionsWithAPrefix(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Store { return connectFirestore(t, firestore.WithPrefix("accrue_")) })
}

// A Commit that can never succeed returns ErrRefused, unlike one that may succeed when it is retried.
func TestFirestoreRefusesAnIDThatIsTooLong(t *testing.T) {
	t.Parallel()
	client := connectFirestore(t)
	commit := store.Commit{Partition: 1, Contributors: []store.Contributions{{Contributor: string(make([]byte, 2000)), Contributions: 1}}}
	commit.Next = commit.Next.Next(time.Now(), time.Hour, nil, nil)
	if _, err := client.Commit(t.Context(), commit); !errors.Is(err, store.ErrRefused) {
		t.Errorf("Commit() of an id that is too long = %v, want ErrRefused", err)
	}
	state, err := client.Load(t.Context(), 1)
	if err != nil || state.Revision != (store.Revision{}) {
		t.Errorf("the refused commit left %+v, %v", state, err)
	}
}

// Firestore's errors name the document, and errors end up in logs, so the adapter must strip contributor ids.
func TestFirestoreErrorsNameNoContributor(t *testing.T) {
	t.Parallel()
	client := connectFirestore(t)
	const person = "ada lovelace/%"
	commit := store.Commit{Partition: 1, Contributors: []store.Contributions{{Contributor: person, Contributions: 1}}}
	commit.Next = commit.Next.Next(time.Now(), time.Hour, nil, nil)
	if _, err := client.Commit(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	recognition := store.Recognition{Contributor: person, Tier: 3, Contributions: 3, RecognizedAt: time.Now()}
	if err := client.Recognize(t.Context(), recognition); err != nil {
		t.Fatal(err)
	}
	long := commit
	long.Partition, long.Contributors = 2, []store.Contributions{{Contributor: person + string(make([]byte, 2000)), Contributions: 1}}
	_, refused := client.Commit(t.Context(), long)
	for title, tc := range map[string]struct{ err, want error }{
		"exists":  {client.Recognize(t.Context(), recognition), store.ErrExists},
		"missing": {client.Raise(t.Context(), person+" of nowhere", 3), store.ErrNotFound},
		"refused": {refused, store.ErrRefused},
	} {
		if !errors.Is(tc.err, tc.want) || strings.Contains(tc.err.Error(), "lovelace") {
			t.Errorf("%s: %v, want %v without the contributor", title, tc.err, tc.want)
		}
	}
}
