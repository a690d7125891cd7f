package cause

import "testing"

func TestPortConflict(t *testing.T) { onlyLogsTell(t, portConflict, "healthz") }
