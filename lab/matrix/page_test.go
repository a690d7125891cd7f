package matrix

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

// The width and height of a small phone, in CSS pixels.
const (
	phoneWidth  = 360
	phoneHeight = 640
)

// pageOnAPhone looks at the page for people in a real browser: it says what
// want is, fits the width, and the browser complains of nothing.
func pageOnAPhone(t *testing.T, w *world, want string) {
	t.Helper()
	if err := cluster.Require(cluster.Program{Name: "chromium", Package: "chromium"}); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ask := func(expression string) string {
		t.Helper()
		out, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var mu sync.Mutex
	var complaints []string
	if err := chromedp.Listen(ctx, func(e any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := e.(type) {
		case *log.EventEntryAdded:
			// The browser asks for an icon by itself.
			if !strings.HasSuffix(e.Entry.URL, "/favicon.ico") {
				complaints = append(complaints, e.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, e.ExceptionDetails.Text)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx,
		chromedp.EmulateViewport(phoneWidth, phoneHeight, chromedp.EmulateMobile),
		chromedp.Navigate(w.urls[0]+"/causes"),
	); err != nil {
		t.Fatal(err)
	}
	headings := ask(`Array.from(document.querySelectorAll("h2"), h => h.innerText).join("\n")`)
	whole := ask(`document.body.innerText`)
	wide := ask(`String(Math.max(document.documentElement.scrollWidth, ...Array.from(document.querySelectorAll("*"), e => Math.ceil(e.getBoundingClientRect().right))))`)
	scripts := ask(`String(document.scripts.length)`)
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(headings, "\n"); lines[0] != want || len(lines) != 2 {
		t.Errorf("the headings are %q, want %q first", lines, want)
	}
	if !strings.Contains(whole, "What to do:") {
		t.Errorf("the page does not say what to do:\n%s", whole)
	}
	if n, err := strconv.Atoi(wide); err != nil || n > phoneWidth {
		t.Errorf("the page is %s pixels wide, the phone %d", wide, phoneWidth)
	}
	mu.Lock()
	defer mu.Unlock()
	if scripts != "0" || len(complaints) > 0 {
		t.Errorf("%s scripts; the browser complains: %q", scripts, complaints)
	}
	if err := os.WriteFile(filepath.Join(w.Bin, "causes.png"), picture, 0o644); err != nil {
		t.Error(err)
	}
}
