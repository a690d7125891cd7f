# Passes on what "go test -v" prints, and repeats at its end how what the failed
# tests had said began: tests that run at once bury it. Tests whose subtests
# failed come first, as they add least; then the others, the first to fail last;
# and at the very end three lines of each of those, where one looks first.
{ print; fflush() }
/^=== (RUN|NAME|CONT) / { test = $3; next }
/^ *--- FAIL: / {
	failed[++n] = $3
	for (up = $3; sub(/\/[^\/]*$/, "", up); )
		above[up] = 1
	next
}
/^ *--- |^(=== |PASS|FAIL|ok )/ { next }
/world_test.go:[0-9]+: +(\.\.|ok) / { next }
test != "" && lines[test]++ < 40 {
	said[test] = said[test] substr($0, 1, 600) "\n"
	if (lines[test] <= 3)
		brief[test] = brief[test] substr($0, 1, 400) "\n"
}
END {
	for (round = 0; round < 2; round++)
		for (i = n; i > 0; i--)
			if (said[failed[i]] != "" && (failed[i] in above) == (round == 0))
				printf "\n=== failed: %s\n%s", failed[i], said[failed[i]]
	for (i = n; i > 0; i--)
		if (!(failed[i] in above))
			printf "\n=== in short: %s\n%s", failed[i], brief[failed[i]]
}
