package cause

import "testing"

// The API does not show it; the node's own view is in TestNodeBoundaries.
func TestVIPUnreachable(t *testing.T) {
	atBoundary(t, vipUnreachable, []boundary{{"a healthy cluster", func(*Snapshot) {}, Unknown, ""}})
}
