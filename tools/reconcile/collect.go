package reconcile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/accrue/accrue/pkg/broker"
	"github.com/accrue/accrue/pkg/message"
)

// idlePulls is how many pulls in a row bring nothing before a subscription counts as empty: a pull may bring nothing although there
// is something.
const idlePulls = 3

// source is a subscription of the increments topic that is kept for the archive.
type source interface {
	Pull(ctx context.Context, limit int) ([]broker.Delivery, error)
	Acknowledge(ctx context.Context, receipts []string) error
}

// collect moves all messages from a subscription to the end of a file. A message is acknowledged once it is on the disk, so if
// anything fails it is in the subscription, or in the file, or in both, and an archive counts it once. Messages that do not decode
// are dead letters, which nothing counts: they are acknowledged and left out. If the file ends within a line, which a crash can
// leave, the line is removed: its message is still in the subscription.
func collect(ctx context.Context, from source, name string, progress io.Writer) (err error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the file that the user names
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := endAtLine(file); err != nil {
		return err
	}
	collected, undecodable := 0, 0
	for idle := 0; idle < idlePulls; {
		deliveries, err := from.Pull(ctx, broker.MaxPull)
		if err != nil {
			return fmt.Errorf("pull messages: %w", err)
		}
		if len(deliveries) == 0 {
			idle++
			continue
		}
		idle = 0
		var rows bytes.Buffer
		encoder, receipts := json.NewEncoder(&rows), make([]string, 0, len(deliveries))
		for _, d := range deliveries {
			receipts = append(receipts, d.Receipt)
			b, err := message.Decode(d.Data)
			if err != nil {
				undecodable++
				continue
			}
			collected++
			if err := encoder.Encode(lineOf(b)); err != nil {
				return err
			}
		}
		if _, err := file.Write(rows.Bytes()); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		if err := from.Acknowledge(ctx, receipts); err != nil {
			return fmt.Errorf("acknowledge messages, which are in the file: %w", err)
		}
		fmt.Fprintf(progress, "%d messages collected\n", collected)
	}
	if undecodable > 0 {
		fmt.Fprintf(progress, "%d messages do not decode, and are left out\n", undecodable)
	}
	return nil
}

// endAtLine goes to the end of the last whole line, and removes what follows it.
func endAtLine(file *os.File) error {
	whole, size := int64(0), int64(0)
	for lines := bufio.NewReader(file); ; {
		text, err := lines.ReadSlice('\n')
		size += int64(len(text))
		switch {
		case err == nil:
			whole = size
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			if err := file.Truncate(whole); err != nil {
				return err
			}
			_, err := file.Seek(whole, io.SeekStart)
			return err
		default:
			return err
		}
	}
}
