package demo

import (
	"encoding/xml"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Sizes of the picture, in pixels.
const (
	charWidth  = 7.25
	lineHeight = 17
	margin     = 16
)

// paints give lines their colour; the first that matches wins.
var paints = []struct {
	line   *regexp.Regexp
	colour string
}{
	{regexp.MustCompile(`WRONG`), "#ff5f56"},
	{regexp.MustCompile(`firing +kproxy`), "#ff8f66"},
	{regexp.MustCompile(`firing +upstream`), "#d8b24a"},
	{regexp.MustCompile(` ok +[0-9.]+s |^All `), "#6fd08c"},
	{regexp.MustCompile(`^[A-Z][A-Z ]+  |^[a-z-]+: `), "#ffffff"},
	{regexp.MustCompile(`pending|resolved|^Every|^kube-proxy`), "#8a93a6"},
}

// picture draws the text of a terminal as SVG.
func picture(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	width := 0
	for _, l := range lines {
		width = max(width, len([]rune(l)))
	}
	var b strings.Builder
	w, h := int(float64(width)*charWidth)+2*margin, len(lines)*lineHeight+2*margin
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="#14181f"/>`+"\n", w, h)
	b.WriteString(`<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="12" xml:space="preserve">` + "\n")
	for i, l := range lines {
		if l == "" {
			continue
		}
		colour := "#c9d1d9"
		for _, p := range paints {
			if p.line.MatchString(l) {
				colour = p.colour
				break
			}
		}
		var escaped strings.Builder
		_ = xml.EscapeText(&escaped, []byte(l)) // a Builder does not fail
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s" textLength="%.0f" lengthAdjust="spacingAndGlyphs">%s</text>`+"\n",
			margin, margin+(i+1)*lineHeight-5, colour, float64(len([]rune(l)))*charWidth, escaped.String())
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

func writePicture(path, text string) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, []byte(picture(text)), 0o644)
}
