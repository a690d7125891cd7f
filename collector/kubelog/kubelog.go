// Package kubelog reads the log of a kube-proxy that ended and names the line
// that says why. It knows kube-proxy's words from 1.1x to 1.37, and which of
// its errors are noise. It does not fetch logs and does not judge nodes.
package kubelog

import (
	"bytes"
	"regexp"
	"strings"
)

// Result is what a log says.
type Result struct {
	// Class is "cause/detail", as the causes are called; empty if no line decides.
	Class string
	// Line is the line that decides, without its time and place; if none does,
	// the last error line, if any.
	Line string
}

// maxLine bounds what is looked at in one line: a log is foreign input.
const maxLine = 4096

// Classify reads a whole log, oldest line first. What ended the process is in
// its last error lines; everything before is usually noise of the same start.
// So patterns are tried on the last line first, and a line that only reports
// the end ("command failed") counts as the line that it quotes.
func Classify(log []byte) Result {
	var fallback string
	for rest := bytes.TrimRight(log, "\n\r\t "); len(rest) > 0; {
		i := bytes.LastIndexByte(rest, '\n')
		line := rest[i+1:]
		rest = rest[:max(i, 0)]
		text := clip(line)
		if !isError(text) {
			continue
		}
		body := strip(text)
		if isNoise(body) {
			continue
		}
		for _, p := range patterns {
			if p.expr.MatchString(body) {
				return Result{p.class, body}
			}
		}
		if fallback == "" {
			fallback = body
		}
	}
	return Result{Line: fallback}
}

func clip(line []byte) string {
	if len(line) > maxLine {
		line = line[:maxLine]
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(line)), "?")
}

// klogHeader is "E1123 08:13:16.334300      86 run.go:72] ", also inside the
// line of a container runtime.
var klogHeader = regexp.MustCompile(`^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ [^ \]]+\] ?`)

// plainErrors begin lines that end a process without klog: the flag parser,
// the Go runtime, the kernel's answer to a wrong binary.
var plainErrors = regexp.MustCompile(`^(Error: |error: |panic: |fatal error: |runtime: out of memory|SIGSEGV|unexpected fault address|exec |standard_init_linux|invalid argument|unknown flag|F\d{4} )|exec format error|level=(error|fatal)|"level":"error"|^time=.*level=(error|fatal)|^[a-z ]*failed`)

// isError is whether a line can be the one that decides.
func isError(line string) bool {
	if m := klogHeader.FindStringSubmatch(line); m != nil {
		return m[1] == "E" || m[1] == "F" || strings.Contains(line, "Observed a panic")
	}
	return plainErrors.MatchString(line)
}

func strip(line string) string { return klogHeader.ReplaceAllString(line, "") }

func isNoise(body string) bool {
	for _, n := range noise {
		if n.expr.MatchString(body) {
			return true
		}
	}
	return false
}
