package embedded_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/accrue/accrue/pkg/database/databasetest"
	"github.com/accrue/accrue/pkg/store/embedded"
	"github.com/accrue/accrue/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Store { return embedded.New(databasetest.Open(t)) })
}
