package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/constant"
	"go/types"
	"regexp"
	"strings"

	"golang.org/x/tools/go/packages"
)

// constants are the constants of a package and of its imports.
type constants struct{ of *packages.Package }

// loadConstants checks the types of the package in a folder, with its imports.
func loadConstants(ctx context.Context, folder string) (*constants, error) {
	loaded, err := packages.Load(&packages.Config{
		Context: ctx, Dir: folder, Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedExportFile | packages.NeedImports,
	}, ".")
	if err != nil {
		return nil, fmt.Errorf("load the constants: %w", err)
	}
	if len(loaded) != 1 || len(loaded[0].Errors) > 0 {
		return nil, fmt.Errorf("load the constants of %s: %v", folder, loaded[0].Errors)
	}
	return &constants{of: loaded[0]}, nil
}

var errConstant = errors.New("no such constant")

// value returns a constant by its name in the package: name, or package.name.
func (c *constants) value(name string) (constant.Value, error) {
	scope := c.of.Types.Scope()
	if qualifier, rest, ok := strings.Cut(name, "."); ok {
		scope, name = nil, rest
		for _, imported := range c.of.Types.Imports() {
			if imported.Name() == qualifier {
				scope = imported.Scope()
			}
		}
	}
	if scope != nil {
		if found, ok := scope.Lookup(name).(*types.Const); ok {
			return found.Val(), nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, errConstant)
}

func (c *constants) text(name string) (string, error) {
	v, err := c.value(name)
	if err != nil {
		return "", err
	}
	if v.Kind() != constant.String {
		return "", fmt.Errorf("%s is not a string: %w", name, errConstant)
	}
	return constant.StringVal(v), nil
}

func (c *constants) count(name string) (uint64, error) {
	v, err := c.value(name)
	if err != nil {
		return 0, err
	}
	n, exact := constant.Uint64Val(constant.ToInt(v))
	if !exact {
		return 0, fmt.Errorf("%s is not a count: %w", name, errConstant)
	}
	return n, nil
}

func (c *constants) number(name string) (*float64, error) {
	v, err := c.value(name)
	if err != nil {
		return nil, err
	}
	n, exact := constant.Float64Val(constant.ToFloat(v))
	if !exact {
		return nil, fmt.Errorf("%s is not a number: %w", name, errConstant)
	}
	return &n, nil
}

var placeholder = regexp.MustCompile(`\$\{[A-Za-z.]+\}`)

// expand replaces each ${name} in an encoded document by the value of the constant.
func (c *constants) expand(encoded []byte) ([]byte, error) {
	var faults []error
	expanded := placeholder.ReplaceAllFunc(encoded, func(found []byte) []byte {
		v, err := c.value(string(bytes.Trim(found, "${}")))
		if err != nil {
			faults = append(faults, err)
			return found
		}
		text := v.ExactString()
		if v.Kind() == constant.String {
			text = constant.StringVal(v)
		}
		quoted, err := json.Marshal(text)
		faults = append(faults, err)
		return bytes.Trim(quoted, `"`)
	})
	return expanded, errors.Join(faults...)
}
