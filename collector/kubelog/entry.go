package kubelog

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// severity is how bad an entry calls itself.
type severity byte

const (
	plain   severity = iota // no header: a runtime, a program, a torn line
	info                    // klog I
	warning                 // klog W
	failure                 // klog E or F
)

// entry is one message: a line with a header and the lines that belong to it.
type entry struct {
	severity severity
	body     string
	// clock is klog's time since the year began; 0 if it has none.
	clock time.Duration
	// at is the carrier's time; zero if it has none.
	at time.Time
}

// Bounds of what is looked at in one entry: a log is foreign input.
const (
	maxLine    = 4096
	maxEntries = 40 // lines of one entry
)

var (
	// klogHeader is "E1123 08:13:16.334300      86 run.go:72] ", wherever what
	// wrote the line down (journald, a container runtime, kubectl) put it.
	klogHeader = regexp.MustCompile(`(?:^|[ \t"])([IWEF])(\d{4} \d\d:\d\d:\d\d)\.\d+\s+\d+ [\w.-]+:\d+\] ?`)
	// tornHeader is what is left of one that somebody cut.
	tornHeader = regexp.MustCompile(`^[\w-]+\.go:\d+\] `)
	// carriers write before the line: CRI, journald, kubectl --prefix or --timestamps.
	carriers = regexp.MustCompile(`^(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) (?:(?:stdout|stderr) [FP] )?|\[pod/[^\]]*\] |[[:alpha:]]{3} +\d+ \d\d:\d\d:\d\d \S+ [\w./-]+(?:\[\d+\])?: )`)
	// starters begin an entry without a header: what ends a process without
	// klog, and the logs of linked libraries.
	starters = regexp.MustCompile(`^(?:Error: |error: |panic: |fatal error: |runtime: |SIGSEGV|unexpected fault address|time="|exec |standard_init_linux|invalid configuration|unknown flag|Failed to )|exec format error`)
	// others are lines of the manager that runs kube-proxy, not of kube-proxy.
	others = regexp.MustCompile(`^\S* ?systemd\[\d+\]: |\bsystemd\[\d+\]: `)
)

// entries splits a log into its messages, oldest first.
func entries(log []byte) []entry {
	var out []entry
	open, lines := false, 0
	for len(log) > 0 {
		line, rest, _ := bytes.Cut(log, []byte("\n"))
		log = rest
		text := clip(line)
		if text == "" || others.MatchString(text) {
			continue
		}
		e, head := parse(text)
		if !head && open && lines < maxEntries {
			out[len(out)-1].body += "\n" + e.body
			lines++
			continue
		}
		out = append(out, e)
		// Only a failure has more to say on the lines that follow.
		open, lines = e.severity == failure || e.severity == plain && head, 0
	}
	return out
}

func clip(line []byte) string {
	if len(line) > maxLine {
		line = line[:maxLine]
	}
	return strings.ToValidUTF8(strings.TrimRight(string(line), " \r\t"), "?")
}

// parse reads a line; head says that it begins a message.
func parse(text string) (e entry, head bool) {
	if message, ok := docker(text); ok {
		text = message
	}
	if m := klogHeader.FindStringSubmatchIndex(text); m != nil {
		return entry{
			severity: map[byte]severity{'I': info, 'W': warning, 'E': failure, 'F': failure}[text[m[2]]], body: text[m[1]:],
			clock: clock(text[m[4]:m[5]]), at: carrierTime(text),
		}, true
	}
	at := carrierTime(text)
	for carrier := carriers.FindString(text); carrier != ""; carrier = carriers.FindString(text) {
		text = text[len(carrier):]
	}
	if e, ok := structured(text); ok {
		e.at = at
		return e, true
	}
	if torn := tornHeader.FindString(text); torn != "" {
		return entry{severity: plain, body: text[len(torn):], at: at}, true
	}
	return entry{severity: plain, body: strings.TrimLeft(text, " \t"), at: at}, starters.MatchString(text)
}

// leapYear is one in which every klog date exists.
const leapYear = 2000

// clock is klog's "1123 08:13:16" since the year began, in a leap year; 0 if
// there is no such time.
func clock(text string) time.Duration {
	t, err := time.Parse("20060102 15:04:05", strconv.Itoa(leapYear)+text)
	if err != nil {
		return 0
	}
	return t.Sub(time.Date(leapYear, 1, 1, 0, 0, 0, 0, time.UTC)) + 1
}

// carrierTime is the time with which a line begins, as kubectl --timestamps and
// CRI write it; zero if there is none.
func carrierTime(text string) time.Time {
	first, _, _ := strings.Cut(text, " ")
	t, err := time.Parse(time.RFC3339Nano, first)
	if err != nil {
		return time.Time{}
	}
	return t
}

// docker unwraps a line of Docker's json-file driver.
func docker(text string) (string, bool) {
	if !strings.HasPrefix(text, `{"log":`) {
		return "", false
	}
	var line struct{ Log string }
	if json.Unmarshal([]byte(text), &line) != nil {
		return "", false
	}
	return strings.TrimRight(line.Log, " \r\n\t"), true
}

// structured reads a line of --logging-format=json: an error is one that has err.
func structured(text string) (entry, bool) {
	if !strings.HasPrefix(text, "{") {
		return entry{}, false
	}
	var line struct{ Msg, Err string }
	if json.Unmarshal([]byte(text), &line) != nil || line.Msg == "" {
		return entry{}, false
	}
	if line.Err == "" {
		return entry{severity: info, body: line.Msg}, true
	}
	return entry{severity: failure, body: line.Msg + " err=" + line.Err}, true
}
