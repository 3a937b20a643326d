package bench

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/accrue/accrue/ingest"
	"github.com/accrue/accrue/pkg/logging"
	"github.com/accrue/accrue/pkg/service"
	"github.com/accrue/accrue/tools/cli"
)

// baselineCommand returns the command accrue bench baseline, which serves ingest's API without keeping anything. Bench
// measures ingest against it.
func baselineCommand() *cobra.Command {
	var port int
	command := &cobra.Command{
		Use:    "baseline",
		Short:  "Serve ingest's API and keep nothing",
		Hidden: true,
		Args:   cli.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			log := logging.New(c.ErrOrStderr(), "baseline", nil)
			server, err := service.NewServer(port, ingest.Baseline(log), time.Second, log)
			if err != nil {
				return fmt.Errorf("start: %w", err)
			}
			return server.Run(c.Context())
		},
	}
	command.Flags().IntVar(&port, "port", 8080, "port, 0 for a free one")
	return command
}
