# Passes on what "go test -v" prints, and at its end repeats how what the failed
# tests had said began: tests that run at once bury it. The first to fail comes
# last, where one looks first: the others may only have met what it left.
{ print; fflush() }
/^=== (RUN|NAME|CONT) / { test = $3; next }
/^ *--- FAIL: / { failed[++n] = $3; next }
/^ *--- |^(=== |PASS|FAIL|ok )/ { next }
test != "" && lines[test]++ < 40 { said[test] = said[test] substr($0, 1, 600) "\n" }
END {
	for (i = n; i > 0; i--)
		if (said[failed[i]] != "")
			printf "\n=== failed: %s\n%s", failed[i], said[failed[i]]
}
