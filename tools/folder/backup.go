package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/accrue/accrue/pkg/database"
	"github.com/accrue/accrue/tools/cli"
)

// standard is the argument that stands for standard input or output.
const standard = "-"

// BackupCommand returns the command accrue backup. Variables are the environment.
func BackupCommand(variables map[string]string) *cobra.Command {
	var data string
	var asJSON bool
	command := &cobra.Command{
		Use:   "backup FILE",
		Short: "Back up the folder of accrue run, also while it runs",
		Long: `Writes a copy of an embedded database, as it is at one moment, to a file that does not exist yet, and verifies it. The
copy holds everything: totals, history, contributors, keys, and messages that are not counted yet. accrue run may use
the folder meanwhile. FILE may be - for standard output, which is not verified.`,
		Example: `  accrue backup accrue-$(date +%F).db
  accrue backup --data /var/lib/accrue - | gzip > accrue.db.gz`,
		Args: oneFile,
		RunE: func(c *cobra.Command, arguments []string) error {
			if data == "" {
				return cli.Usagef("--data is required")
			}
			if arguments[0] == standard {
				_, err := backup(c.Context(), data, c.OutOrStdout())
				return err
			}
			var size int64
			err := database.Save(arguments[0], func(w io.Writer) (err error) {
				size, err = backup(c.Context(), data, w)
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), map[string]any{"file": arguments[0], "bytes": size})
			}
			fmt.Fprintf(c.OutOrStdout(), "backed up %s to %s: %d bytes, verified\n", data, arguments[0], size)
			return nil
		},
	}
	command.Flags().StringVar(&data, "data", Default(variables), "folder of the embedded database (DATA)")
	command.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return command
}

// RestoreCommand returns the command accrue restore. Variables are the environment.
func RestoreCommand(variables map[string]string) *cobra.Command {
	var data string
	command := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a backup the database of a folder",
		Long: `Verifies a backup and makes it the database of a folder that has none. What was counted after the backup is gone. To
replace a database, stop accrue run and move accrue.db away first. FILE may be - for standard input.`,
		Example: `  accrue restore accrue-2026-11-26.db
  gunzip < accrue.db.gz | accrue restore --data /var/lib/accrue -`,
		Args: oneFile,
		RunE: func(c *cobra.Command, arguments []string) error {
			if data == "" {
				return cli.Usagef("--data is required")
			}
			from := c.InOrStdin()
			if arguments[0] != standard {
				f, err := os.Open(arguments[0])
				if err != nil {
					return err
				}
				defer f.Close() //nolint:errcheck // it was only read
				from = f
			}
			if conn, err := dial(c.Context(), data); err == nil {
				return errors.Join(fmt.Errorf("restore the database in %s: %w", data, database.ErrInUse), conn.Close())
			}
			if err := database.Restore(data, from); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "restored %s from %s\n", data, arguments[0])
			return nil
		},
	}
	command.Flags().StringVar(&data, "data", Default(variables), "folder of the embedded database (DATA)")
	return command
}

func oneFile(_ *cobra.Command, arguments []string) error {
	if len(arguments) != 1 {
		return cli.Usagef("the name of one file is required, or - for standard input or output")
	}
	return nil
}

// backup writes a copy of the database in a folder to w, and returns its size: by the process that uses the folder if there
// is one.
func backup(ctx context.Context, folder string, w io.Writer) (size int64, err error) {
	conn, err := dial(ctx, folder)
	switch {
	case err == nil:
		return download(ctx, conn, w)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED):
		return 0, fmt.Errorf("connect to the process that uses %s: %w", folder, err)
	}
	d, err := Open(folder)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Backup(ctx, w)
}

// Open opens the database of a folder that no process uses. It makes none.
func Open(folder string) (*database.Database, error) {
	switch exists, err := database.Exists(folder); {
	case err != nil:
		return nil, fmt.Errorf("open the database in %s: %w", folder, err)
	case !exists:
		return nil, fmt.Errorf("there is no database in %s", folder)
	}
	return database.Open(database.Options{Folder: folder, Log: zerolog.Nop()})
}

// CheckMoved returns an error if the totals of a database have gone elsewhere, so that nothing may be counted in it.
func CheckMoved(ctx context.Context, d *database.Database, folder string) error {
	to, err := d.Moved(ctx)
	if err == nil && to != "" {
		err = fmt.Errorf("%s was migrated to %s: use that, or restore a backup to another folder", folder, to)
	}
	return err
}

// dial connects to the process that uses a folder. The error is fs.ErrNotExist or syscall.ECONNREFUSED if there is none.
func dial(ctx context.Context, folder string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(folder, socketName))
}

// download asks the process at the other end of conn for a backup.
func download(ctx context.Context, conn net.Conn, w io.Writer) (int64, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://accrue"+backupPath, http.NoBody)
	if err != nil {
		return 0, fmt.Errorf("back up: %w", err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("back up: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // it is read to its end
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("back up: the process that uses the folder answers %s", answer.Status)
	}
	size, err := io.Copy(w, answer.Body)
	if err != nil {
		return size, fmt.Errorf("back up: %w", err)
	}
	return size, nil
}
