package demo

import (
	"encoding/xml"
	"strings"
	"testing"
)

func TestPictureIsTheText(t *testing.T) {
	text := "\nbad-config-field: <breaks> & more\n   1.0s  firing   kproxy    KubeProxyCrashLoop\n"
	svg := picture(text)
	var doc struct {
		Text []string `xml:"g>text"`
	}
	if err := xml.Unmarshal([]byte(svg), &doc); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(doc.Text, "\n"); got != strings.Trim(text, "\n") {
		t.Errorf("the picture says %q", got)
	}
	if !strings.Contains(svg, "#ff8f66") {
		t.Error("our alert has no colour")
	}
}
