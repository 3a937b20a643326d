// Package cli holds what the subcommands of accrue have in common: exit codes, the form of errors, and output.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// ErrFailed is returned by a command that has failed and has already printed why.
var ErrFailed = errors.New("failed")

// usageError is an error in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage marks an error as one of the command line. It returns nil for nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// Usagef returns an error of the command line.
func Usagef(format string, arguments ...any) error { return Usage(fmt.Errorf(format, arguments...)) }

// NoArguments refuses arguments that are not flags.
func NoArguments(_ *cobra.Command, arguments []string) error {
	if len(arguments) > 0 {
		return Usagef("unknown argument %q", arguments[0])
	}
	return nil
}

// Execute runs a command and returns the exit code of the process: 0 for success, 1 for a failure, 2 for an error in the
// command line. An error is printed on one line.
func Execute(ctx context.Context, command *cobra.Command, arguments []string, stdout, stderr io.Writer) int {
	command.SetArgs(arguments)
	command.SetOut(stdout)
	command.SetErr(stderr)
	command.SilenceErrors, command.SilenceUsage = true, true
	command.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	executed, err := command.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrFailed):
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%s: %s (see %[1]s --help)\n", executed.CommandPath(), oneLine(err))
		return 2
	default:
		fmt.Fprintf(stderr, "%s: %s\n", executed.CommandPath(), oneLine(err))
		return 1
	}
}

// oneLine returns the lines of an error as one. Services in one process report a shared setting once each: it is said once.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(err.Error())) {
		if line = strings.TrimSuffix(line, "\n"); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// PrintJSON writes a value as indented JSON.
func PrintJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// IsTerminal reports whether a stream is a terminal.
func IsTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && file.Name() != os.DevNull
}

// dialTimeout bounds Reach.
const dialTimeout = 10 * time.Second

// Reach returns an error if nothing listens at host:port. Clients of Google Cloud try again for minutes where nothing does. An
// empty address can be reached.
func Reach(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Address parses the address of a service. The error is one of the command line.
func Address(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, Usagef("--url must be an address such as http://127.0.0.1:8080")
	}
	return u, nil
}

// ReachURL returns an error if nothing listens at the address of a service. Behind a proxy it returns nil.
func ReachURL(ctx context.Context, u *url.URL) error {
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); proxy != nil || err != nil {
		return err
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return Reach(ctx, net.JoinHostPort(u.Hostname(), port))
}
