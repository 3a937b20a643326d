package load

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/accrue/accrue/pkg/increment"
)

// Words splits text into the words that are names of tags: every maximal run of a to z and _ that is 3 to 15 long. Longer
// and shorter runs are dropped, not cut. In one pass and bounded memory it finds the same as:
//
//	tr -c 'a-z_' '\n' | grep -Ex '[a-z_]{3,15}'
type Words struct {
	text   io.Reader
	buffer [64 << 10]byte
	// unread is the rest of buffer.
	unread []byte
	// run holds the current run of letters in run[:length], at most one more than fit a word.
	run    [increment.MaxNameLength + 1]byte
	length int
	// err is why reading ended: io.EOF or an error.
	err error
}

// NewWords returns the words of a text.
func NewWords(text io.Reader) *Words {
	w := &Words{}
	w.reset(text)
	return w
}

// reset makes w split a text from its start.
func (w *Words) reset(text io.Reader) { w.text, w.unread, w.length, w.err = text, nil, 0, nil }

// Next returns the next word, valid until the next call. The error is io.EOF at the end.
func (w *Words) Next() ([]byte, error) {
	for {
		for i, c := range w.unread {
			if (c >= 'a' && c <= 'z') || c == '_' {
				if w.length < len(w.run) {
					w.run[w.length] = c
					w.length++
				}
				continue
			}
			if n := w.length; n > 0 {
				w.length = 0
				if n >= increment.MinNameLength && n <= increment.MaxNameLength {
					w.unread = w.unread[i+1:]
					return w.run[:n], nil
				}
			}
		}
		w.unread = nil
		if w.err != nil {
			if n := w.length; n >= increment.MinNameLength && n <= increment.MaxNameLength {
				w.length = 0
				return w.run[:n], nil
			}
			return nil, w.err
		}
		var n int
		n, w.err = w.text.Read(w.buffer[:])
		w.unread = w.buffer[:n]
	}
}

// file is a file whose words are counted.
type file struct {
	path string
	size int64
}

// find lists the files that arguments name, sorted and each once: files, folders (every file in them, at any depth), and
// patterns. Besides the syntax of filepath.Match, a pattern may hold one ** that stands for any folders: "src/**/*.go".
func find(arguments []string) ([]file, error) {
	all := make(map[string]int64)
	for _, argument := range arguments {
		found := make(map[string]int64)
		if err := findOne(argument, found); err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s names no file", argument)
		}
		maps.Copy(all, found)
	}
	files := make([]file, 0, len(all))
	for path, size := range all {
		files = append(files, file{path, size})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return files, nil
}

func findOne(argument string, found map[string]int64) error {
	if root, pattern, ok := strings.Cut(filepath.ToSlash(argument), "**/"); ok {
		if root == "" {
			root = "."
		}
		return walk(root, pattern, found)
	}
	paths, err := filepath.Glob(argument)
	if err != nil {
		return fmt.Errorf("pattern %s: %w", argument, err)
	}
	for _, path := range paths {
		if err := walk(path, "*", found); err != nil {
			return err
		}
	}
	return nil
}

// walk adds the regular files below root whose name matches pattern.
func walk(root, pattern string, found map[string]int64) error {
	if _, err := filepath.Match(pattern, ""); err != nil {
		return fmt.Errorf("pattern %s: %w", pattern, err)
	}
	// A folder may be named by a link to it; links below it are not followed, so that the walk ends.
	if resolved, err := filepath.EvalSymlinks(root); err == nil {
		root = resolved
	}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if matches, _ := filepath.Match(pattern, entry.Name()); !matches && path != root {
			return nil
		}
		info, err := os.Stat(path) // the target of a link
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			found[filepath.Clean(path)] = info.Size()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for files: %w", err)
	}
	return nil
}
