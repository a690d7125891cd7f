package cause

import "testing"

func TestRulesStale(t *testing.T) { onlyLogsTell(t, rulesStale, "sync_failing") }
