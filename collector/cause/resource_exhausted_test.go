package cause

import "testing"

func TestResourceExhausted(t *testing.T) { onlyLogsTell(t, resourceExhausted, "inotify") }
