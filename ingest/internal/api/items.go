package api

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/accrue/accrue/ingest/internal/batching"
	"github.com/accrue/accrue/ingest/internal/names"
	"github.com/accrue/accrue/pkg/increment"
	"github.com/accrue/accrue/pkg/message"
)

// itemKind is a kind of item: increments or contributions.
type itemKind struct {
	// list is the name of the list in a batch.
	list   string
	fields []field
}

// field is a field of an item. It has either text or integer, which stores a value and returns the rule that it breaks.
type field struct {
	name     string
	required bool
	text     func(*batching.Entry, string) error
	integer  func(*batching.Entry, int64) error
}

func incrementKind(tags *names.Names) *itemKind {
	return &itemKind{list: "increments", fields: []field{
		{name: "name", required: true, text: func(e *batching.Entry, text string) error {
			e.Tag = text
			if err := increment.ValidateName(text); err != nil {
				return err
			}
			return tags.Allowed(text)
		}},
		{name: "value", required: true, integer: func(e *batching.Entry, n int64) error {
			e.Value = uint8(n) //nolint:gosec // a value that does not fit breaks the rule
			return increment.ValidateValue(n)
		}},
		contributorField(false),
		idField(),
	}}
}

func contributionKind() *itemKind {
	return &itemKind{list: "contributions", fields: []field{contributorField(true), idField()}}
}

func contributorField(required bool) field {
	return field{name: "contributor", required: required, text: func(e *batching.Entry, text string) error {
		e.Contributor = text
		return increment.ValidateContributor(text)
	}}
}

// idField is the idempotency key of one item. It replaces the key from the header.
func idField() field {
	return field{name: "id", text: func(e *batching.Entry, text string) error {
		e.Key = message.KeyOf(text)
		return increment.ValidateKey(text)
	}}
}

// readItem reads one item and appends its entry.
func (d *decoder) readItem() error {
	if ok, err := d.open('{', "", "must be an object"); !ok {
		return err
	}
	d.entries = append(d.entries, batching.Entry{Key: d.key})
	if d.key != (message.Key{}) {
		d.key = d.key.Next()
	}
	entry := &d.entries[len(d.entries)-1]
	fields := d.kind.fields
	var seen uint // a bit for each field
	for {
		token, err := d.json.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() == '}' {
			break
		}
		switch i := d.kind.find(token.String()); {
		case i < 0:
			d.formFault(token.String(), unknownField)
			err = d.json.SkipValue()
		case seen&(1<<i) != 0:
			d.formFault(fields[i].name, repeatedField)
			err = d.json.SkipValue()
		case fields[i].text != nil:
			seen |= 1 << i
			err = d.readText(&fields[i], entry)
		default:
			seen |= 1 << i
			err = d.readInteger(&fields[i], entry)
		}
		if err != nil {
			return err
		}
	}
	for i := range fields {
		if fields[i].required && seen&(1<<i) == 0 {
			d.fault(fields[i].name, missingField)
		}
	}
	return nil
}

// find returns the index of the field with a name, or -1. Case matters.
func (k *itemKind) find(name string) int {
	for i := range k.fields {
		if k.fields[i].name == name {
			return i
		}
	}
	return -1
}

func (d *decoder) readText(f *field, entry *batching.Entry) error {
	if ok, err := d.expect('"', f.name, "must be a string"); !ok {
		return err
	}
	quoted, err := d.json.ReadValue()
	if err != nil {
		return err
	}
	var text string
	if bytes.IndexByte(quoted, '\\') < 0 {
		end := int(d.json.InputOffset())
		text = d.text[end-len(quoted)+1 : end-1]
	} else {
		unquoted, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return err
		}
		text = string(unquoted)
	}
	if err := f.text(entry, text); err != nil {
		d.fault(f.name, err.Error())
	}
	return nil
}

func (d *decoder) readInteger(f *field, entry *batching.Entry) error {
	if ok, err := d.expect('0', f.name, notInteger); !ok {
		return err
	}
	token, err := d.json.ReadToken()
	if err != nil {
		return err
	}
	n, err := token.Int() // the nearest int64 if it is out of range
	if errors.Is(err, strconv.ErrSyntax) {
		d.formFault(f.name, notInteger)
		return nil
	}
	if err := f.integer(entry, n); err != nil {
		d.fault(f.name, err.Error())
	}
	return nil
}
