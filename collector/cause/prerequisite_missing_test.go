package cause

import "testing"

func TestPrerequisiteMissing(t *testing.T) { onlyLogsTell(t, prerequisiteMissing, "nft") }
