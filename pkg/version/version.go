// Package version identifies the build of the running binary.
package version

import "runtime/debug"

// image is the version that deployments/Dockerfile sets, if any. The build context of an image does not contain the repository, so
// Go does not know the commit.
var image string // set by the linker

// Info identifies a build.
type Info struct {
	// Version is the version of the module: a release such as v0.1.0, a pseudo-version with the commit, or (devel) if it is
	// unknown.
	Version string
	// Revision is the commit, if it is known. It ends in +dirty if the build contains uncommitted changes.
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

// String returns the version, the revision and the version of Go.
func (i Info) String() string {
	s := i.Version
	if i.Revision != "" {
		s += " " + i.Revision
	}
	return s + " " + i.Go
}
