package memory_test

import (
	"testing"

	"github.com/accrue/accrue/pkg/store/memory"
	"github.com/accrue/accrue/pkg/store/storetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) storetest.Store { return memory.New() })
}
