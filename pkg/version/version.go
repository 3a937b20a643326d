// Package version tells which version of Accrue a binary was built from.
package version

import "runtime/debug"

// image is the version of an image, if its build was given one (deployments/Dockerfile): the repository is not in its build
// context, so Go does not know the commit.
var image string // set by the linker

// Info identifies a build.
type Info struct {
	// Version is the version of the module: a release such as v0.1.0, a pseudo-version that names the commit, or (devel) if
	// the build did not know.
	Version string
	// Revision is the commit, if the build knew it. It ends in +dirty if files had changed since.
	Revision string
	// Go is the version of Go.
	Go string
}

// Current returns the build of the running binary, from the build information that the go command records.
func Current() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return Info{Version: unknown}
	}
	return of(build)
}

const unknown = "(devel)"

func of(build *debug.BuildInfo) Info {
	info := Info{Version: build.Main.Version, Go: build.GoVersion}
	if info.Version == "" {
		info.Version = unknown
	}
	if image != "" {
		info.Version = image
	}
	for _, setting := range build.Settings {
		switch {
		case setting.Key == "vcs.revision":
			info.Revision = setting.Value + info.Revision
		case setting.Key == "vcs.modified" && setting.Value == "true":
			info.Revision += "+dirty"
		}
	}
	return info
}

// String returns the version and what it was built with, for people.
func (i Info) String() string {
	s := i.Version
	if i.Revision != "" {
		s += " " + i.Revision
	}
	return s + " " + i.Go
}
