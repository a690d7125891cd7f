# Passes on what "go test -v" prints, and at its end repeats what the tests that
# failed had said: tests that run at once bury it.
{ print; fflush() }
/^=== (RUN|NAME|CONT) / { test = $3; next }
/^ *--- FAIL: / { failed[++n] = $3; next }
/^ *--- |^(=== |PASS|FAIL|ok )/ { next }
test != "" { said[test] = said[test] substr($0, 1, 600) "\n" }
END {
	for (i = 1; i <= n; i++)
		if (said[failed[i]] != "")
			printf "\n=== failed: %s\n%s", failed[i], said[failed[i]]
}
