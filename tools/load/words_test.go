package load

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// split returns the words of a text.
func split(t testing.TB, text io.Reader) []string {
	t.Helper()
	var found []string
	var w Words
	w.reset(text)
	for {
		word, err := w.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, string(word))
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                                  nil,
		"ab":                                nil,
		"abc":                               {"abc"},
		"\nabc\n":                           {"abc"},
		"abc def":                           {"abc", "def"},
		"__init__ ___":                      {"__init__", "___"},
		"fooBarbaz":                         {"foo", "arbaz"},
		"foo1bar_2":                         {"foo", "bar_"},
		"abcdefghijklmno":                   {"abcdefghijklmno"},
		"abcdefghijklmnop":                  nil,
		"abcdefghijklmnop abc":              {"abc"},
		strings.Repeat("x", 1000):           nil,
		"föö":                               nil,
		"a\x00bc\xffdef":                    {"def"},
		strings.Repeat("foo ", 50_000):      slices.Repeat([]string{"foo"}, 50_000),
		strings.Repeat(" ", 65533) + "abcd": {"abcd"}, // over the end of the buffer
	} {
		if got := split(t, strings.NewReader(text)); !slices.Equal(got, want) {
			t.Errorf("words of %.30q = %.50q, want %.50q", text, got, want)
		}
	}
}

func TestWordsReportsAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	var w Words
	w.reset(io.MultiReader(strings.NewReader("foo b"), iotest.ErrReader(broken)))
	if word, err := w.Next(); err != nil || string(word) != "foo" {
		t.Errorf("next() = %q, %v", word, err)
	}
	if _, err := w.Next(); !errors.Is(err, broken) {
		t.Errorf("next() = %v, want %v", err, broken)
	}
}

// The reference is the shell's: tr -c 'a-z_' '\n' | grep -Ex '[a-z_]{3,15}'.
func FuzzWordsAreThoseOfTheShell(f *testing.F) {
	for _, seed := range []string{"", "foo bar", "abcdefghijklmnop q", "__init__\x00ÿ_\xff", "a_b_c\nAbCdEf"} {
		f.Add([]byte(seed))
	}
	other, line := regexp.MustCompile(`[^a-z_]`), regexp.MustCompile(`^[a-z_]{3,15}$`)
	f.Fuzz(func(t *testing.T, text []byte) {
		// Byte by byte, as tr does: to a regular expression an invalid byte is a character too, but not one of these.
		var want []string
		for _, l := range strings.Split(other.ReplaceAllString(latin1(text), "\n"), "\n") {
			if line.MatchString(l) {
				want = append(want, l)
			}
		}
		for name, reader := range map[string]io.Reader{
			"whole": strings.NewReader(string(text)), "byte by byte": iotest.OneByteReader(strings.NewReader(string(text))),
			"with its end": iotest.DataErrReader(strings.NewReader(string(text))),
		} {
			if got := split(t, reader); !slices.Equal(got, want) {
				t.Errorf("%s: words of %q = %q, want %q", name, text, got, want)
			}
		}
	})
}

// latin1 makes each byte a character.
func latin1(text []byte) string {
	var b strings.Builder
	for _, c := range text {
		b.WriteRune(rune(c))
	}
	return b.String()
}

func TestFind(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, path := range []string{"a.go", "b.txt", "x/c.go", "x/y/d.go", "x/y/e.txt"} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("four"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(root, "x"), link); err != nil {
		t.Fatal(err)
	}
	if files, err := find([]string{link}); err != nil || len(files) != 3 {
		t.Errorf("find() through a link = %v, %v", files, err)
	}
	for name, tc := range map[string]struct {
		arguments, want []string
	}{
		"a file":            {[]string{"a.go"}, []string{"a.go"}},
		"a folder":          {[]string{"x"}, []string{"x/c.go", "x/y/d.go", "x/y/e.txt"}},
		"a pattern":         {[]string{"*.go"}, []string{"a.go"}},
		"any depth":         {[]string{"**/*.go"}, []string{"a.go", "x/c.go", "x/y/d.go"}},
		"below a folder":    {[]string{"x/**/*.go"}, []string{"x/c.go", "x/y/d.go"}},
		"several, repeated": {[]string{"x/y", "b.txt", "b.txt"}, []string{"b.txt", "x/y/d.go", "x/y/e.txt"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var arguments []string
			for _, a := range tc.arguments {
				arguments = append(arguments, filepath.Join(root, a))
			}
			files, err := find(arguments)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range files {
				path, err := filepath.Rel(root, f.path)
				if err != nil || f.size != 4 {
					t.Errorf("file %+v: %v", f, err)
				}
				got = append(got, filepath.ToSlash(path))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("find(%v) = %v, want %v", tc.arguments, got, tc.want)
			}
		})
	}
	for _, wrong := range []string{"missing", "*.missing", "**/*.missing", "missing/**/*.go", "[", "**/["} {
		if files, err := find([]string{filepath.Join(root, wrong)}); err == nil {
			t.Errorf("find(%q) = %v, want an error", wrong, files)
		}
	}
}

func BenchmarkWords(b *testing.B) {
	text := strings.Repeat("func (s *wordSource) Close() error { return errors.New(\"closed\") }\n", 1000)
	b.SetBytes(int64(len(text)))
	var w Words
	for b.Loop() {
		w.reset(strings.NewReader(text))
		for {
			if _, err := w.Next(); err != nil {
				break
			}
		}
	}
}
