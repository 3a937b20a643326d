package service

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

const (
	// emulatorPatience is how long an emulator may take to answer before that is logged, and bounds one attempt.
	emulatorPatience = 2 * time.Second
	// emulatorPause is the time between two attempts.
	emulatorPause = 500 * time.Millisecond
)

// Emulator returns a Part that prepares the emulator at an address, which the environment variable has, until prepare
// succeeds. An emulator that does not answer within two seconds is logged; the service runs meanwhile. Without an address
// the part does nothing.
func Emulator(log zerolog.Logger, variable, address string, prepare func(context.Context) error) Part {
	return Part{Name: variable, Run: func(ctx context.Context) error {
		if address != "" {
			prepareEmulator(ctx, log.With().Str("variable", variable).Str("address", address).Logger(), prepare)
		}
		<-ctx.Done()
		return nil
	}}
}

func prepareEmulator(ctx context.Context, log zerolog.Logger, prepare func(context.Context) error) {
	logged := false
	for begun := time.Now(); ctx.Err() == nil; {
		attempt, cancel := context.WithTimeout(ctx, emulatorPatience)
		err := prepare(attempt)
		cancel()
		if err == nil {
			if logged {
				log.Info().Msg("the emulator answers now")
			}
			return
		}
		if !logged && ctx.Err() == nil && time.Since(begun) >= emulatorPatience {
			log.Warn().Err(err).Msg("the emulator does not answer; is it running at this address?")
			logged = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(emulatorPause):
		}
	}
}
