// Command openapi writes the OpenAPI documents of the services, openapi.json beside each API, from the annotations in
// their sources. github.com/swaggo/swag reads them as Swagger 2.0, and openapi2conv converts that to OpenAPI 3.0. This
// command adds what neither supports: bounds from constants of the sources, examples, the media type of problem
// documents, and closed objects. It refuses documents that are not valid, examples included, and those with anything that
// lacks a description or an example.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

// fileName is the name of a document, in the folder of the API that it describes.
const fileName = "openapi.json"

// services are the folders of the APIs, and of the packages whose annotations and types are part of them all.
func services() map[string][]string {
	shared := []string{"pkg/service", "pkg/openapi", "pkg/problem"}
	return map[string][]string{
		"ingest": append([]string{"ingest/internal/api"}, shared...),
		"query":  append([]string{"query/internal/api"}, shared...),
	}
}

func run(ctx context.Context, arguments []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("openapi", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", ".", "folder of the repository")
	if err := flags.Parse(arguments); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	for service, folders := range services() {
		for i, folder := range folders {
			folders[i] = filepath.Join(*root, folder)
		}
		document, err := generate(ctx, folders)
		if err != nil {
			return fmt.Errorf("%s: %w", service, err)
		}
		if err := os.WriteFile(filepath.Join(folders[0], fileName), document, 0o644); err != nil { //nolint:gosec // part of the sources
			return fmt.Errorf("%s: %w", service, err)
		}
	}
	return nil
}
