package firestore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/accrue/accrue/pkg/emulator/emulatortest"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/pkg/store/storetest"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

func connect(t *testing.T) *firestore.Client {
	t.Helper()
	client, err := firestore.Connect(t.Context(), emulatortest.Project(t), "(default)", emulatortest.Firestore(t))
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

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Store { return connect(t) })
}

// A Commit that Firestore will never take must be told from one that may go through later.
func TestAnIDThatIsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	client := connect(t)
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
