// Package documents opens the store that a command works on: Firestore, or the folder of accrue run.
package documents

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
	"github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/tools/cli"
	"github.com/accrue/accrue/tools/folder"
)

// KeepPublishers is how long publishers stay in a checkpoint that a command replaces: as long as any subscription can keep
// messages (https://cloud.google.com/pubsub/docs/subscription-properties), and a day.
const KeepPublishers = 32 * 24 * time.Hour

// Store is what the commands need of a store.
type Store interface {
	Load(ctx context.Context, partition uint32) (store.State, error)
	Commit(ctx context.Context, commit store.Commit) (store.Revision, error)
	Rejected(ctx context.Context, after string, limit int) ([]store.RejectedEntries, error)
	Totals(ctx context.Context) ([]store.PartitionTotals, time.Time, error)
	Tags(ctx context.Context) ([]store.Tag, error)
	DropTag(ctx context.Context, name string) error
	Erase(ctx context.Context, contributor string, audit store.AuditRecord) (store.Standing, error)
	PutAudit(ctx context.Context, record store.AuditRecord) error
}

// Flags name the store.
type Flags struct {
	Project, Emulator, Database string
	// Prefix comes before the names of all collections.
	Prefix string
	// Data is a folder, or empty.
	Data string
}

// Add adds the flags to a command. Variables are the environment.
func (f *Flags) Add(c *cobra.Command, variables map[string]string) {
	flags := c.Flags()
	flags.StringVar(&f.Project, "project", variables["GOOGLE_CLOUD_PROJECT"], "Google Cloud project (GOOGLE_CLOUD_PROJECT)")
	flags.StringVar(&f.Emulator, "firestore-emulator", variables["FIRESTORE_EMULATOR_HOST"], "host:port of a Firestore emulator (FIRESTORE_EMULATOR_HOST)")
	flags.StringVar(&f.Database, "database", cmp.Or(variables["FIRESTORE_DATABASE"], "(default)"), "id of the Firestore database (FIRESTORE_DATABASE)")
	flags.StringVar(&f.Prefix, "collection-prefix", variables["COLLECTION_PREFIX"], "prefix of the names of collections (COLLECTION_PREFIX)")
	flags.StringVar(&f.Data, "data", "", "folder of accrue run, which must not be running, instead of a project")
}

// Check returns an error of the command line unless the flags name a store.
func (f *Flags) Check() error {
	if f.Project == "" && f.Data == "" {
		return cli.Usagef("--project, GOOGLE_CLOUD_PROJECT or --data is required")
	}
	if !service.ValidPrefix(f.Prefix) {
		return cli.Usagef("--collection-prefix must be letters, digits and underscores, with a letter first")
	}
	return nil
}

// Opened is a store that is open.
type Opened struct {
	Store
	// Folder is the embedded database, or nil.
	Folder *database.Database
	close  func() error
}

// Close closes the store.
func (o *Opened) Close() error { return o.close() }

// Open opens the store.
func (f *Flags) Open(ctx context.Context) (*Opened, error) {
	if f.Data != "" {
		d, err := folder.Open(f.Data)
		if err != nil {
			return nil, err
		}
		if err := folder.CheckMoved(ctx, d, f.Data); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		return &Opened{embedded.New(d), d, d.Close}, nil
	}
	if err := cli.Reach(ctx, f.Emulator); err != nil {
		return nil, fmt.Errorf("connect to the emulator: %w", err)
	}
	client, err := firestore.Connect(ctx, f.Project, f.Database, f.Emulator, firestore.WithPrefix(f.Prefix))
	if err != nil {
		return nil, fmt.Errorf("connect to Firestore: %w", err)
	}
	return &Opened{client, nil, client.Close}, nil
}
