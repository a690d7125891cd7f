package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
)

// printer writes text for people. The text quotes a cluster: what a terminal
// would obey, or would show in another order than it is written, is replaced.
type printer struct {
	to      io.Writer
	replace func(rune) string
}

// Write takes whole lines: a character must not be split among two calls.
func (p printer) Write(b []byte) (int, error) {
	if _, err := io.WriteString(p.to, printable(string(b), p.replace)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// printable replaces control characters (Cc) other than the end of a line, format
// characters (Cf: marks of direction, zero width), line and paragraph separators
// (Zl, Zp), and what is not UTF-8.
func printable(s string, replace func(rune) string) string {
	obeyed := func(r rune) bool {
		return r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	}
	s = strings.ToValidUTF8(s, "?")
	if strings.IndexFunc(s, obeyed) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if obeyed(r) {
			b.WriteString(replace(r))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func questionMark(rune) string { return "?" }

// jsonEscape is the character as a JSON string has it.
func jsonEscape(r rune) string {
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Sprintf("\\u%04x\\u%04x", high, low)
	}
	return fmt.Sprintf("\\u%04x", r)
}
