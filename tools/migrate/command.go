// Package migrate moves a folder of accrue run to Firestore: totals, history, contributors, recognitions, idempotency keys
// and rejected entries, each exactly once. It makes Commits as the aggregator does: each has a number and the checkpoint
// before it as a precondition, so a run that is killed is gone on with where it stopped.
package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	brokerembedded "github.com/accrue/accrue/pkg/broker/embedded"
	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/pkg/store"
	storeembedded "github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/pkg/store/firestore"
	"github.com/accrue/accrue/tools/cli"
	datafolder "github.com/accrue/accrue/tools/folder"
)

// deadLetters is in the name of the subscription that dead letters wait in.
const deadLetters = "dead-letter"

type options struct {
	data, project, databaseID, prefix, emulator string
	keepKeys                                    time.Duration
	leaveDeadLetters, json                      bool
}

// Command returns the command accrue migrate. Variables are the environment.
func Command(variables map[string]string) *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:   "migrate",
		Short: "Move a folder of accrue run to Firestore",
		Long: `Writes totals, history, contributors, recognitions, idempotency keys and rejected entries of a folder to an empty
Firestore database, exactly once, reads them back and compares them. Stop accrue run first, and let no service use the
Firestore database until the command has ended. If it fails or is killed, run it again: it goes on where it stopped.
From its start on accrue run refuses the folder. To go back, restore a backup.`,
		Example: `  accrue backup before.db
  accrue migrate --data .accrue --project my-project`,
		Args: cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case o.project == "":
				return cli.Usagef("--project or GOOGLE_CLOUD_PROJECT is required")
			case o.data == "":
				return cli.Usagef("--data is required")
			case o.keepKeys <= 0:
				return cli.Usagef("--keep-keys must be positive")
			case !service.ValidPrefix(o.prefix):
				return cli.Usagef("--collection-prefix must be letters, digits and underscores, with a letter first")
			}
			return o.run(c)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.data, "data", datafolder.Default(variables), "folder of the embedded database (DATA)")
	flags.StringVar(&o.project, "project", variables["GOOGLE_CLOUD_PROJECT"], "Google Cloud project (GOOGLE_CLOUD_PROJECT)")
	flags.StringVar(&o.databaseID, "database", cmp.Or(variables["FIRESTORE_DATABASE"], "(default)"), "id of the Firestore database (FIRESTORE_DATABASE)")
	flags.StringVar(&o.prefix, "collection-prefix", variables["COLLECTION_PREFIX"], "prefix of the names of collections (COLLECTION_PREFIX)")
	flags.StringVar(&o.emulator, "firestore-emulator", variables["FIRESTORE_EMULATOR_HOST"], "host:port of a Firestore emulator (FIRESTORE_EMULATOR_HOST)")
	flags.DurationVar(&o.keepKeys, "keep-keys", 25*time.Hour, "how long idempotency keys are kept: the horizon and an hour")
	flags.BoolVar(&o.leaveDeadLetters, "leave-dead-letters", false, "leave dead letters in the folder")
	flags.BoolVar(&o.json, "json", false, "print the report as JSON")
	return command
}

func (o *options) run(c *cobra.Command) (err error) {
	ctx := c.Context()
	d, err := datafolder.Open(o.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	from, err := prepare(ctx, d, o)
	if err != nil {
		return err
	}
	if err := cli.Reach(ctx, o.emulator); err != nil {
		return fmt.Errorf("connect to Firestore: %w", err)
	}
	documents, err := firestore.Connect(ctx, o.project, o.databaseID, o.emulator, firestore.WithPrefix(o.prefix))
	if err != nil {
		return fmt.Errorf("connect to Firestore: %w", err)
	}
	defer documents.Close() //nolint:errcheck // the process ends
	m := &migration{from: from, to: documents, progress: c.ErrOrStderr()}
	if err := m.checkTarget(ctx); err != nil {
		return err
	}
	if err := d.Move(ctx, o.destination()); err != nil {
		return err
	}
	if err := m.run(ctx); err != nil {
		return fmt.Errorf("%w (what was written is right: run the command again)", err)
	}
	r, err := m.verify(ctx)
	if err != nil {
		return err
	}
	if o.json {
		return cli.PrintJSON(c.OutOrStdout(), r)
	}
	fmt.Fprintf(c.OutOrStdout(), `migrated %s to %s, and compared:
%10d tags with %d increments, whose sum is %d
%10d contributors with %d contributions and %d recognitions
%10d minutes and hours of history
%10d idempotency keys, %d rejected entries, %d audit records
`, o.data, o.destination(), r.Tags, r.Increments, r.Total, r.Contributors, r.Contributions, r.Recognitions, r.Periods, r.Keys, r.Rejected, r.Audits)
	return nil
}

// destination names the target.
func (o *options) destination() string {
	database := "projects/" + o.project + "/databases/" + o.databaseID
	if o.prefix != "" {
		return database + "/documents/" + o.prefix + "*"
	}
	return database
}

// prepare checks that everything in a folder can be migrated.
func prepare(ctx context.Context, d *database.Database, o *options) (*folder, error) {
	switch to, err := d.Moved(ctx); {
	case err != nil:
		return nil, err
	case to != "" && to != o.destination():
		return nil, fmt.Errorf("%s was migrated to %s", o.data, to)
	}
	waiting, err := brokerembedded.New(d).Waiting(ctx)
	if err != nil {
		return nil, err
	}
	for subscription, n := range waiting {
		switch letters := strings.Contains(subscription, deadLetters); {
		case n > 0 && !letters:
			return nil, fmt.Errorf("%d messages of %s wait in %s: start accrue run without posting, and stop it after some seconds", n, subscription, o.data)
		case n > 0 && !o.leaveDeadLetters:
			return nil, fmt.Errorf("%d dead letters wait in %s: redrive them, or leave them behind with --leave-dead-letters", n, o.data)
		}
	}
	documents := storeembedded.New(d)
	collections, err := documents.Collections(ctx)
	if err != nil {
		return nil, err
	}
	for _, collection := range collections {
		switch collection {
		case store.Partitions, store.Tags, store.Contributors, store.Recognitions, store.Rejected, store.Keys, store.Minutes, store.Hours, store.Layouts, store.Audit:
		default:
			return nil, fmt.Errorf("the folder has documents in %s, which this program does not migrate", collection)
		}
	}
	return readFolder(ctx, documents, o.keepKeys)
}
